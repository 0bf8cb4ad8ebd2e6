//! A disk image is found or fetched, verified, unpacked and laid under overlays.
