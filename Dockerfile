# One base, Debian's own packages, nothing else. Stages:
#   build    the programs, with Debian's Rust
#   probe    the guest that decides whether /dev/kvm can be used
#   runtime  the image itself
#   vagrant  the same with Vagrant and virt-install, for `nodectl session`: docker build --target vagrant .
#   tests    rustfmt, clippy and the crate's tests: docker build --target tests .

FROM debian:trixie-slim AS build
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends ca-certificates cargo gcc libc6-dev libvirt-dev pkg-config rustc >/dev/null 2>/tmp/apt.log \
    || { cat /tmp/apt.log; exit 1; } \
 && rm -rf /var/lib/apt/lists/*
COPY ci/image/ca /usr/local/share/ca-certificates
RUN update-ca-certificates >/dev/null 2>&1
WORKDIR /src
# The dependencies alone, in a layer that a change of our own sources leaves standing.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src/bin benches && echo '//! None yet.' | tee src/lib.rs > benches/judge.rs \
 && for name in check in out nodectl; do printf '//! None yet.\nfn main() {}\n' > "src/bin/$name.rs"; done \
 && cargo build --locked --release --quiet
COPY src src
RUN find src -name '*.rs' -exec touch {} + \
 && cargo build --locked --release --quiet --bins

FROM debian:trixie-slim AS probe
ENV DEBIAN_FRONTEND=noninteractive
COPY ci/image/probe /src
RUN apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends cpio gcc libc6-dev linux-libc-dev >/dev/null 2>/tmp/apt.log \
    || { cat /tmp/apt.log; exit 1; } \
 && cd /tmp && apt-get download -qq $(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p') \
 && mkdir -p /probe/root/dev /kernel \
 && dpkg-deb -x linux-image-*.deb /kernel && cp /kernel/boot/vmlinuz-* /probe/vmlinuz \
 && gcc -Os -static -nostdlib -nostartfiles -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -s \
        -o /probe/root/init /src/init.c \
 && mknod /probe/root/dev/console c 5 1 \
 && (cd /probe/root && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) > /probe/initrd \
 && rm -rf /probe/root /kernel /tmp/*.deb /var/lib/apt/lists/*

FROM debian:trixie-slim AS runtime
ENV DEBIAN_FRONTEND=noninteractive
# What nobody reads in a container, and what QEMU brings for other machines, never gets into a layer.
RUN printf 'path-exclude=%s\n' '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/info/*' '/usr/share/locale/*' \
        '/usr/share/qemu/skiboot*' '/usr/share/qemu/openbios*' '/usr/share/qemu/slof*' '/usr/share/qemu/u-boot*' \
        '/usr/share/qemu/hppa*' '/usr/share/qemu/palcode*' '/usr/share/qemu/s390*' '/usr/share/qemu/opensbi*' \
        '/usr/share/qemu/trace-events-all' '/usr/share/qemu/QEMU*' '/usr/share/qemu/*.dtb' '/usr/share/qemu/keymaps/*' \
        '/usr/share/bash-completion/*' '/usr/share/lintian/*' '/usr/share/systemtap/*' \
        '/usr/lib/x86_64-linux-gnu/qemu/audio-*' '/usr/lib/x86_64-linux-gnu/qemu/ui-*' \
        '/usr/lib/x86_64-linux-gnu/qemu/hw-s390x*' '/usr/bin/qemu-system-i386' '/usr/bin/pkttyagent' \
        > /etc/dpkg/dpkg.cfg.d/slim \
 && printf 'path-include=%s\n' '/usr/share/doc/*/copyright' >> /etc/dpkg/dpkg.cfg.d/slim \
 && apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends ca-certificates dnsmasq-base iproute2 iptables libvirt-clients libvirt-daemon \
        libvirt-daemon-driver-network libvirt-daemon-driver-qemu libvirt-daemon-driver-storage libvirt-daemon-log nftables openssh-client qemu-system-x86 \
        qemu-utils >/dev/null 2>/tmp/apt.log \
    || { cat /tmp/apt.log; exit 1; } \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/* /tmp/* /usr/share/doc/qemu* \
           /etc/libvirt/qemu/networks/autostart/* /etc/machine-id /var/lib/dbus/machine-id \
 && mkdir -p /var/log/libvirt
COPY --from=probe /probe /usr/share/libvirt-resource/probe
COPY --from=build /src/target/release/check /src/target/release/in /src/target/release/out /opt/resource/
COPY --from=build /src/target/release/nodectl /usr/local/bin/nodectl

FROM runtime AS vagrant
RUN apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends rsync vagrant vagrant-libvirt virtinst >/dev/null 2>/tmp/apt.log \
    || { cat /tmp/apt.log; exit 1; } \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/* /var/log/* /tmp/*
# The provider, for a Vagrantfile that names none; and paths in UTF-8, which Ruby asks for.
ENV VAGRANT_DEFAULT_PROVIDER=libvirt LC_ALL=C.UTF-8

FROM build AS tests
RUN apt-get update -qq \
 && apt-get install -qq -y --no-install-recommends ansible-core busybox-static cpio curl libvirt-daemon \
        libxml2-utils openssh-client openssh-server python3 qemu-utils rust-clippy rustfmt \
        >/dev/null 2>/tmp/apt.log \
    || { cat /tmp/apt.log; exit 1; } \
 && rm -rf /var/lib/apt/lists/*
COPY . .
RUN cargo fmt --check
RUN cargo clippy --locked --quiet --all-targets -- -D warnings
RUN cargo test --locked --quiet

# What a plain `docker build .` gives. The classic builder makes every stage before it on the way; `--target runtime` spares it
# the tests.
FROM runtime
