# Shell functions that the scripts under ci/ share. Sourced, by bash, with the repository's root in $root.
# shellcheck shell=bash

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
note() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Where what was made is kept between runs.
cache=${LIBVIRT_RESOURCE_CACHE:-/var/cache/libvirt-resource}

need_root() {
	[ "$(id -u)" = 0 ] || die "run $0 as root: it makes network namespaces, mounts and device nodes"
}

# Installs the packages that are missing, quietly.
need_packages() {
	local missing=() package
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
	done
	[ ${#missing[@]} = 0 ] && return
	note "installing ${missing[*]}"
	local log
	log=$(mktemp)
	export DEBIAN_FRONTEND=noninteractive
	if ! { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
		cat "$log" >&2
		die "apt could not install ${missing[*]}"
	fi
	rm -f "$log"
}

# What the worker stand-in runs on.
# shellcheck disable=SC2034
worker_packages=(catatonit iproute2 iptables procps python3 python3-yaml runc)

dockerd_pid=

# Starts a Docker daemon where none runs. stop_docker ends it again, and only it.
need_docker() {
	need_packages docker.io
	docker info >/dev/null 2>&1 && return
	note 'starting dockerd, since none runs'
	mkdir -p "$cache"
	# A session of its own: Ctrl-C is for the script, which then stops it in order.
	setsid dockerd >"$cache/dockerd.log" 2>&1 </dev/null &
	dockerd_pid=$!
	local tries=0
	until docker info >/dev/null 2>&1; do
		tries=$((tries + 1))
		if [ $tries -gt 300 ] || ! kill -0 "$dockerd_pid" 2>/dev/null; then
			tail -20 "$cache/dockerd.log" >&2
			die 'dockerd does not start'
		fi
		sleep 0.2
	done
}

stop_docker() {
	[ -n "$dockerd_pid" ] || return 0
	kill "$dockerd_pid" 2>/dev/null || true
	wait "$dockerd_pid" 2>/dev/null || true
	dockerd_pid=
}

# Debian's slim base image: pulled, or, where no registry can be reached, made of the same packages.
need_base() {
	local base=debian:trixie-slim tar
	docker image inspect "$base" >/dev/null 2>&1 && return
	docker pull -q "$base" >/dev/null 2>&1 && return
	note "$base cannot be pulled: making it with mmdebstrap"
	need_packages mmdebstrap
	tar=$(mktemp --suffix=.tar)
	mmdebstrap --quiet --variant=minbase trixie "$tar"
	docker import "$tar" "$base" >/dev/null
	rm -f "$tar"
}
