# Functions for the scripts that take files out of Debian packages: an apt with lists, a cache and a state of its own.
#
# This apt uses only the system's sources and keys, and sees no installed packages. It works for any user and any
# architecture, and changes nothing. apt verifies the packages with Debian's keys.

# own_apt DIR ARCH: creates DIR/apt.conf, for apt-get -c, and the files that it names. The settings of a file given with
# -c override the system's settings.
own_apt() {
	mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
	: >"$1/status"
	# Only Debian's archive counts, whatever other sources the machine has.
	cat >"$1/preferences" <<-'END'
	Package: *
	Pin: release o=Debian
	Pin-Priority: 990

	Package: *
	Pin: release o=Debian Backports
	Pin-Priority: 100

	Package: *
	Pin: release o=*
	Pin-Priority: -1
	END
	cat >"$1/apt.conf" <<-END
	APT::Architecture "$2";
	APT::Architectures { "$2"; };
	APT::Sandbox::User "root";
	#clear APT::Update::Post-Invoke;
	#clear APT::Update::Post-Invoke-Success;
	Dir::State "$1";
	Dir::State::Lists "$1/lists";
	Dir::State::status "$1/status";
	Dir::Cache "$1/cache";
	Dir::Etc::Preferences "$1/preferences";
	Dir::Etc::PreferencesParts "/dev/null";
	Acquire::Languages "none";
	Acquire::Retries "2";
	Debug::NoLocking "true";
	END
}

# own_source DIR SUITE [TYPE]: makes the apt of DIR read SUITE from the mirror of this machine's release, instead of the
# system's sources. TYPE is deb or deb-src. It fails if the machine has no source of its release.
own_source() {
	[ -e "$1/sources.list" ] || {
		: >"$1/sources.list"
		cat >>"$1/apt.conf" <<-END
		Dir::Etc::SourceList "$1/sources.list";
		Dir::Etc::SourceParts "/dev/null";
		END
	}
	# shellcheck disable=SC1091
	own_mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		awk -v release="$(. /etc/os-release && echo "${VERSION_CODENAME:-none}")" '$1 == release { print $2; exit }')
	[ -n "$own_mirror" ] || return 1
	echo "${3:-deb} [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $own_mirror $2 main" >>"$1/sources.list"
}

# megabytes: reads the output of apt-get --print-uris and prints the size of the downloads.
megabytes() { awk '{ size += $3 } END { printf "%d MB\n", size / 1000000 + 1 }'; }
