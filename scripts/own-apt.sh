# Sourced by the scripts that take files out of Debian packages: an apt with lists, a cache and a state of its own.
#
# The system's apt is asked for nothing but its sources, and neither what is installed here nor what it is installed for
# plays a part: to this apt nothing is. So it works for root and for anyone else, for packages of any architecture, and
# changes nothing. What it takes is verified by apt, with Debian's own keys.

# own_apt DIR ARCH: makes DIR/apt.conf, for apt-get -c, and what it names. Given on the command line, the file is read last
# and so overrules the system's.
own_apt() {
	mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
	: >"$1/status"
	# Only the distribution's archive may provide anything, whatever other sources the machine has.
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

# own_source DIR SUITE [TYPE]: has the apt of DIR read SUITE too, where this machine's own sources have its release. TYPE is
# deb or deb-src. The system's sources are left out from then on. It fails where the machine has no source of its release.
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
