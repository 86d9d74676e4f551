//! Compression of encoded requests: each form of a request is made at most once, for all destinations.
//! Entry points: [`Forms::get`], [`plain`].

use std::io::{self, Read as _, Write as _};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use prost::bytes::Bytes;
use tracing::debug;

use super::request::Request;
use crate::export::otlp::settings::Compression;
use crate::export::wire;

/// The level of both: requests repeat themselves so much that higher levels cost a multiple and save a tenth.
const LEVEL: u8 = 1;

/// Compresses requests. Its memory is allocated with the first one.
#[derive(Default)]
pub struct Compressor {
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// Reused output of Zstandard, as long as the worst case.
    output: Vec<u8>,
}

/// A request as it was encoded, and its compressed forms as far as they were needed.
pub struct Forms<'a> {
    compressor: &'a mut Compressor,
    plain: Request,
    gzip: Option<Request>,
    zstd: Option<Request>,
}

impl<'a> Forms<'a> {
    /// Returns the forms of a request that is not compressed.
    pub fn new(plain: Request, compressor: &'a mut Compressor) -> Self {
        Self { compressor, plain, gzip: None, zstd: None }
    }

    /// Returns the request in this form; as it was encoded if it cannot be compressed.
    pub fn get(&mut self, compression: Compression) -> Request {
        let made = match compression {
            Compression::None => return self.plain.clone(),
            Compression::Gzip => &mut self.gzip,
            Compression::Zstd => &mut self.zstd,
        };
        made.get_or_insert_with(|| self.compressor.compressed(&self.plain, compression)).clone()
    }
}

impl Compressor {
    /// Returns a plain request in this form; unchanged if it cannot be compressed.
    pub fn compressed(&mut self, plain: &Request, compression: Compression) -> Request {
        let bytes = match compression {
            Compression::None => return plain.clone(),
            Compression::Gzip => gzip(&plain.bytes),
            Compression::Zstd => self.zstd(&plain.bytes),
        };
        match bytes {
            Ok(bytes) => Request { bytes, compression, items: plain.items },
            Err(error) => {
                debug!("failed to compress a request: {error}; it stays uncompressed");
                plain.clone()
            }
        }
    }

    fn zstd(&mut self, plain: &[u8]) -> io::Result<Bytes> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            None => self.zstd.insert(zstd::bulk::Compressor::new(LEVEL.into())?),
        };
        self.output.clear();
        self.output.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        zstd.compress_to_buffer(plain, &mut self.output)?;
        Ok(Bytes::copy_from_slice(&self.output))
    }
}

fn gzip(plain: &[u8]) -> io::Result<Bytes> {
    let output = Vec::with_capacity(plain.len() / 8);
    let mut encoder = GzEncoder::new(output, flate2::Compression::new(LEVEL.into()));
    encoder.write_all(plain)?;
    let mut output = encoder.finish()?;
    output.shrink_to_fit();
    Ok(output.into())
}

/// Returns a request without compression.
///
/// # Errors
///
/// If it is not compressed as it says, or larger than any request that is made.
pub fn plain(request: &Request) -> io::Result<Request> {
    let bytes = match request.compression {
        Compression::None => request.bytes.clone(),
        Compression::Zstd => unzstd(request)?.into(),
        Compression::Gzip => {
            let mut plain = Vec::new();
            GzDecoder::new(&*request.bytes).take(wire::MAX_LEN as u64 + 1).read_to_end(&mut plain)?;
            if plain.len() > wire::MAX_LEN {
                return Err(io::Error::other("the decompressed request is too long"));
            }
            plain.into()
        }
    };
    Ok(Request { bytes, compression: Compression::None, items: request.items })
}

/// Decompresses a request that [`Compressor`] made: its frame says how long it is, which is what is reserved.
fn unzstd(request: &Request) -> io::Result<Vec<u8>> {
    let len = plain_size(request).and_then(|len| usize::try_from(len).ok());
    let len = len.ok_or_else(|| io::Error::other("the request does not say how long it is"))?;
    if len > wire::MAX_LEN {
        return Err(io::Error::other("the decompressed request is too long"));
    }
    zstd::bulk::decompress(&request.bytes, len)
}

/// Returns the size of a request without compression, in bytes; `None` if it does not say.
#[must_use]
pub fn plain_size(request: &Request) -> Option<u64> {
    let bytes = &request.bytes;
    match request.compression {
        Compression::None => Some(bytes.len() as u64),
        Compression::Zstd => zstd::zstd_safe::get_frame_content_size(bytes).ok()?,
        // The last four bytes of the format.
        Compression::Gzip => Some(u32::from_le_bytes(*bytes.last_chunk()?).into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::otlp::encode::{Items, Signal};

    proptest! {
        #[test]
        fn every_form_decompresses_to_the_request(bytes: Vec<u8>, count: u64) {
            let items = Items { signal: Signal::Metrics, count };
            let request = Request { bytes: bytes.clone().into(), compression: Compression::None, items };
            let mut compressor = Compressor::default();
            let mut forms = Forms::new(request, &mut compressor);
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let form = forms.get(compression);
                prop_assert_eq!((form.compression, form.items), (compression, items));
                prop_assert_eq!(plain_size(&form), Some(bytes.len() as u64));
                prop_assert_eq!(&plain(&form).expect("it is whole").bytes, &bytes);
                prop_assert_eq!(forms.get(compression).bytes.as_ptr(), form.bytes.as_ptr(), "it is made once");
            }
        }
    }

    #[test]
    fn decompressing_takes_the_memory_of_the_request() {
        let items = Items { signal: Signal::Metrics, count: 1 };
        let bytes = Bytes::from(vec![7; 100_000]);
        let plain = Request { bytes, compression: Compression::None, items };
        let request = Compressor::default().compressed(&plain, Compression::Zstd);
        assert!(unzstd(&request).expect("it is whole").capacity() < 2 * plain.bytes.len());
        // A frame with a window of 1 KiB that announces 256 MiB + 1 bytes. Source: RFC 8878, section 3.1.1.
        let long = [&[0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0][..], &((256_u64 << 20) + 1).to_le_bytes()].concat();
        let request = Request { bytes: long.into(), ..request };
        assert_eq!(plain_size(&request), Some((256 << 20) + 1));
        assert!(unzstd(&request).is_err());
    }

    #[test]
    fn what_is_not_compressed_as_it_says_is_an_error() {
        let items = Items { signal: Signal::Metrics, count: 1 };
        for compression in [Compression::Gzip, Compression::Zstd] {
            let request = Request { bytes: Bytes::from_static(b"plain"), compression, items };
            assert!(plain(&request).is_err(), "{compression:?}");
        }
    }
}
