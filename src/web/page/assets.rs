//! The files of the front end, which are in the program. Entry points: [`url`] and [`find`].
//!
//! The name of each has a hash of its content, so that browsers keep it for as long as they like.

use std::io::{self, Write as _};
use std::sync::{Arc, LazyLock};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use uuid::Uuid;

use crate::web::negotiate::Coding;

/// What browsers load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) enum Asset {
    Script,
    Style,
    Icon,
}

struct AssetFile {
    /// The name before the hash, and the extension after it.
    name: (&'static str, &'static str),
    content_type: &'static str,
    content: &'static [u8],
}

/// In the order of [`Asset`].
const FILES: [AssetFile; 3] = [
    AssetFile {
        name: ("page", "js"),
        content_type: "text/javascript; charset=utf-8",
        content: include_bytes!("ui/dist/page.js"),
    },
    AssetFile {
        name: ("page", "css"),
        content_type: "text/css; charset=utf-8",
        content: include_bytes!("ui/dist/page.css"),
    },
    AssetFile {
        name: ("icon", "svg"),
        content_type: "image/svg+xml",
        content: include_bytes!("ui/dist/icon.svg"),
    },
];

/// A file as it is served.
pub(in crate::web) struct Served {
    /// Its path, relative to the page.
    pub(in crate::web) path: String,
    pub(in crate::web) content_type: &'static str,
    plain: Bytes,
    gzip: io::Result<Bytes>,
    zstd: io::Result<Bytes>,
}

/// Made when a page is first looked at: hashed and compressed once.
static SERVED: LazyLock<[Arc<Served>; FILES.len()]> =
    LazyLock::new(|| FILES.map(|file| Arc::new(Served::new(&file))));

impl Served {
    fn new(file: &AssetFile) -> Self {
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, file.content).simple().to_string();
        let (name, extension) = file.name;
        let gzip = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(file.content)?;
            Ok(encoder.finish()?.into())
        };
        Self {
            path: format!("assets/{name}.{}.{extension}", &hash[..16]),
            content_type: file.content_type,
            plain: Bytes::from_static(file.content),
            gzip: gzip(),
            zstd: zstd::bulk::compress(file.content, 19).map(Bytes::from),
        }
    }

    /// Returns its content, and how that is compressed: not at all if the compression has failed.
    pub(in crate::web) fn content(&self, coding: Coding) -> (Coding, Bytes) {
        match (coding, &self.gzip, &self.zstd) {
            (Coding::Gzip, Ok(bytes), _) | (Coding::Zstd, _, Ok(bytes)) => (coding, bytes.clone()),
            _ => (Coding::Identity, self.plain.clone()),
        }
    }

    /// Returns the tag of its content.
    pub(in crate::web) fn tag(&self) -> String {
        format!("W/\"{}\"", self.path)
    }
}

/// Returns the path of a file, relative to the page.
pub(super) fn url(asset: Asset) -> &'static str {
    &SERVED[asset as usize].path
}

/// Returns the file with a path, which is relative to the page.
pub(super) fn find(path: &str) -> Option<Arc<Served>> {
    SERVED.iter().find(|served| served.path == path).cloned()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn each_file_has_a_name_with_its_hash_and_is_the_same_however_it_is_compressed() {
        for (asset, extension) in [(Asset::Script, ".js"), (Asset::Style, ".css"), (Asset::Icon, ".svg")] {
            let served = find(url(asset)).expect("it is there");
            assert!(
                served.path.ends_with(extension)
                    && served.path.split('.').nth(1).is_some_and(|hash| hash.len() == 16)
            );
            let plain = served.content(Coding::Identity).1;
            assert!(!plain.is_empty());
            let (coding, gzip) = served.content(Coding::Gzip);
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(&*gzip).read_to_end(&mut text).expect("it is gzip");
            assert_eq!((coding, &*text), (Coding::Gzip, &*plain));
            let (coding, zstd) = served.content(Coding::Zstd);
            let text = zstd::bulk::decompress(&zstd, plain.len()).expect("it is zstd");
            assert_eq!((coding, &*text), (Coding::Zstd, &*plain));
        }
        assert!(find("assets/page.0000000000000000.js").is_none() && find("").is_none());
    }
}
