//! A picture of what a domain's display shows.

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use virt::stream::Stream;

use super::connection::Connection;
use super::error::{Action, HypervisorError, Thing};

/// What a display of 3840 by 2160 takes as PPM, rounded up: no screenshot of ours is larger.
const LIMIT: usize = 32 << 20;

/// How every PNG begins (PNG 3rd edition, 5.2).
const SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";

impl Connection {
    /// A PNG of the domain's display.
    pub fn screenshot(&self, domain: &str) -> Result<Vec<u8>, HypervisorError> {
        let refused =
            |error| HypervisorError::refused(Action::Photograph, Thing::Domain(domain.to_owned()), error);
        let found = self.connect().lookup_domain_by_name(domain).map_err(refused)?;
        let stream = Stream::new(self.connect(), 0).map_err(refused)?;
        let kind = found.screenshot(&stream, 0, 0).map_err(refused)?;
        let mut picture = Vec::new();
        let mut block = vec![0; 64 << 10];
        loop {
            let count = match stream.recv(&mut block) {
                Ok(0) => break,
                // A blocking stream gives no other negative number than its error.
                Ok(count) => usize::try_from(count).unwrap_or(0),
                Err(error) => {
                    let _ = stream.abort();
                    return Err(refused(error));
                }
            };
            picture.extend_from_slice(block.get(..count).unwrap_or_default());
            if count == 0 || picture.len() > LIMIT {
                let _ = stream.abort();
                return Err(odd(domain, "longer than any display's"));
            }
        }
        stream.finish().map_err(refused)?;
        // QEMU writes PNG since 7.1, where it was built with it; else PPM.
        if picture.starts_with(SIGNATURE) {
            return Ok(picture);
        }
        let image =
            Ppm::parse(&picture).ok_or_else(|| odd(domain, &format!("neither PNG nor PPM, but {kind}")))?;
        Ok(image.png())
    }
}

fn odd(domain: &str, said: &str) -> HypervisorError {
    HypervisorError::Picture {
        domain: domain.to_owned(),
        said: said.to_owned(),
    }
}

/// A picture of three bytes a pixel.
#[derive(Debug, PartialEq, Eq)]
struct Ppm<'p> {
    width: u32,
    height: u32,
    pixels: &'p [u8],
}

impl<'p> Ppm<'p> {
    /// Reads netpbm's raw form: `P6`, width, height and 255 in decimal, each followed by white space, then the pixels.
    fn parse(bytes: &'p [u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(b"P6")?;
        let mut numbers = [0u32; 3];
        for number in &mut numbers {
            let start = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
            rest = &rest[start..];
            let end = rest.iter().position(u8::is_ascii_whitespace)?;
            *number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
            rest = &rest[end..];
        }
        let [width, height, depth] = numbers;
        let size = usize::try_from(width)
            .ok()?
            .checked_mul(usize::try_from(height).ok()?)?
            .checked_mul(3)?;
        // One white space ends the header.
        let pixels = rest.get(1..)?.get(..size)?;
        (depth == 255 && size > 0).then_some(Self {
            width,
            height,
            pixels,
        })
    }

    /// Eight bits a channel, no alpha, no filter: a text screen packs well without.
    fn png(&self) -> Vec<u8> {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
        for row in self.pixels.chunks(self.width as usize * 3) {
            // Writing to memory does not fail.
            let _ = packed.write_all(&[0]).and_then(|()| packed.write_all(row));
        }
        let packed = packed.finish().unwrap_or_default();
        let mut header = Vec::with_capacity(13);
        header.extend(self.width.to_be_bytes());
        header.extend(self.height.to_be_bytes());
        header.extend([8, 2, 0, 0, 0]);
        let mut png = SIGNATURE.to_vec();
        for (kind, data) in [(b"IHDR", header), (b"IDAT", packed), (b"IEND", Vec::new())] {
            let mut crc = Crc::new();
            crc.update(kind);
            crc.update(&data);
            png.extend((data.len() as u32).to_be_bytes());
            png.extend(kind);
            png.extend(data);
            png.extend(crc.sum().to_be_bytes());
        }
        png
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_picture_is_turned_into_one_that_browsers_show() {
        let picture = b"P6\n2 1\n255\nABCDEF";
        let image = Ppm::parse(picture).unwrap();
        assert_eq!((image.width, image.height, image.pixels), (2, 1, &b"ABCDEF"[..]));
        let png = image.png();
        assert!(png.starts_with(SIGNATURE));
        // Signature 8; IHDR 4 + 4 + 13 + 4; then the length and kind of the data.
        assert_eq!(&png[8..16], b"\0\0\0\x0dIHDR");
        assert_eq!(&png[16..29], b"\0\0\0\x02\0\0\0\x01\x08\x02\0\0\0");
        let length = u32::from_be_bytes(png[33..37].try_into().unwrap()) as usize;
        assert_eq!(&png[37..41], b"IDAT");
        let mut rows = Vec::new();
        flate2::read::ZlibDecoder::new(&png[41..41 + length])
            .read_to_end(&mut rows)
            .unwrap();
        assert_eq!(rows, b"\0ABCDEF");
        // The one CRC that every PNG ends with.
        assert!(png.ends_with(b"IEND\xae\x42\x60\x82"));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        for bytes in [
            &b""[..],
            b"P5\n2 1\n255\nABCDEF",
            b"P6\n2 1\n255\nABCDE",
            b"P6\n2 1\n65535\nABCDEFABCDEF",
            b"P6\n0 1\n255\n",
            b"P6\n4294967295 4294967295\n255\nA",
            b"P6\n-1 1\n255\nABC",
        ] {
            assert_eq!(Ppm::parse(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), magic: bool) {
            let bytes = if magic { [b"P6\n", bytes.as_slice()].concat() } else { bytes };
            if let Some(image) = Ppm::parse(&bytes) {
                image.png();
            }
        }
    }
}
