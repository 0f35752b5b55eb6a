#!/bin/bash
# Collects the files of the image kubeshore.test/servers: Debian's PostgreSQL,
# Redis and container registry, a shell, and the libraries that these load.
#
# The packages are unpacked, not installed, because installing them would start
# their servers on this machine.
set -euo pipefail
shopt -s nullglob

out=$(realpath -m "$1") # directory for the files; replaced

command -v apt-get dpkg >/dev/null || { echo "$1 is made from Debian packages and needs apt-get and dpkg" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# packages prints the packages and their dependencies, also those that this
# machine already has. Perl is for scripts, and LLVM for PostgreSQL's
# just-in-time compiler.
packages() {
	apt-get install --simulate --no-install-recommends -o Dir::State::status=/dev/null dash postgresql redis-server docker-registry |
		awk '/^Inst/ && $2 !~ /^(perl|libperl|libllvm|libz3|locales|libc-l10n)/ {print $2}'
}
list=$(packages) || { apt-get update -q && list=$(packages); }
apt-get download -q -o APT::Sandbox::User=root $list
mkdir root
for package in *.deb; do
	dpkg --extract "$package" root
done

cd root
programs=(bin/dash usr/lib/postgresql/*/bin/{initdb,postgres} usr/bin/{redis-server,docker-registry})
modules=(usr/lib/postgresql/*/lib/{dict_snowball,plpgsql}.so)
directories=(lib/*-linux-gnu usr/lib/*-linux-gnu)
loader=$(echo lib/*-linux-gnu/ld-linux*.so.*)

# libraries prints what the loader prints for each file it loads: "name => path
# (address)". The name of the loader itself is its path in the image.
libraries() {
	for file in "${programs[@]}" "${modules[@]}"; do
		"$loader" --library-path "$(IFS=:; echo "${directories[*]}")" --list "$file" | awk '$2 == "=>" {print $1, $3}'
	done | sort -u
}
files=$work/files
mkdir -p "$files/etc"
cp --dereference --recursive --parents "${programs[@]}" "${modules[@]}" usr/share/postgresql "$files"
libraries | while read -r name path; do
	[[ $name == /* ]] || name=/$path
	install -D --mode=755 "$path" "$files$name"
done
mv "$files/bin/dash" "$files/bin/sh"
echo 'nobody:x:65534:65534::/:/bin/sh' >"$files/etc/passwd" # initdb looks its user up
rm -rf "$out"
mkdir -p "$(dirname "$out")"
mv "$files" "$out"
touch "$out"
