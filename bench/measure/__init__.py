"""Figures of libvirt-resource, each beside its goal and what it is compared to. Run by bench/run."""
