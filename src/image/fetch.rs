//! A file over HTTP: resumed after a broken connection, hashed while it streams, kept only when its digest is right.

use std::io::{self, Read, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode};
use sha2::{Digest, Sha256 as Hasher};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};
use url::Url;

use super::error::{Broken, ImageError};
use super::job::{Limits, Meter, blocking, write_error};
use super::sniff::{self, Alien, Kind};
use crate::progress::Progress;
use crate::topology::model::Sha256;

/// How much is written between two looks at the free space.
const LOOK: u64 = 64 << 20;

/// How long to wait for a server, and how often to try.
#[derive(Clone, Debug)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next bytes of an answer. The whole may take as long as it takes.
    pub read: Duration,
    /// The wait before the second attempt; it doubles from then on.
    pub first_delay: Duration,
    /// The longest wait between two attempts.
    pub longest_delay: Duration,
    /// How often to try again while no new byte comes.
    pub retries: usize,
    /// Whether the environment's proxies are used.
    pub proxies: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            read: Duration::from_secs(60),
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(15),
            retries: 5,
            proxies: true,
        }
    }
}

/// An address fit to be shown: without login, and without the query, which may hold a signature.
pub fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Fails for addresses without a host, which hold no login.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    shown.set_query(None);
    if url.query().is_some() {
        format!("{shown}?…")
    } else {
        shown.to_string()
    }
}

/// One file to fetch.
pub struct Fetching<'a> {
    /// From where.
    pub url: &'a Url,
    /// What it must hash to.
    pub sha256: &'a Sha256,
    /// Where it is written.
    pub part: &'a Path,
    /// How long to wait.
    pub patience: &'a Patience,
    /// What must stay free.
    pub limits: Limits,
    /// Where it is told.
    pub progress: &'a Progress,
}

/// What there is of the file.
struct Body {
    file: BufWriter<File>,
    hasher: Hasher,
    at: u64,
    /// The size of the whole, once a server has said it.
    whole: Option<u64>,
    /// What an answer must match so that its part belongs to what is there.
    validator: Option<HeaderValue>,
    /// Whether its pieces may be of two versions of the file, as nothing vouched for them.
    patched: bool,
}

/// How an attempt failed.
enum Failure {
    /// Another would fail as well.
    Final(ImageError),
    /// Another may do better, not before so long.
    Passing(Broken, Option<Duration>),
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::Final(error)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Passing(Broken::Connection(error.without_url()), None)
    }
}

impl Fetching<'_> {
    /// Fetches the file; it is at `part`, whole and right, when this returns. After a failure of the network what has come stays
    /// there for the next time; after any other it is removed.
    ///
    /// # Errors
    ///
    /// Why it cannot be had.
    pub async fn run(&self) -> Result<(), ImageError> {
        let result = self.fetch().await;
        if matches!(
            result,
            Err(ImageError::WrongHash { .. } | ImageError::NoDisk { .. } | ImageError::NoRoom { .. })
        ) {
            let _ = std::fs::remove_file(self.part);
        }
        result
    }

    async fn fetch(&self) -> Result<(), ImageError> {
        let client = self.client()?;
        let mut body = self.open().await?;
        let delays = || {
            ExponentialBuilder::default()
                .with_min_delay(self.patience.first_delay)
                .with_max_delay(self.patience.longest_delay)
                .with_max_times(self.patience.retries)
                .with_jitter()
                .build()
        };
        let (mut waits, mut best, mut attempts) = (delays(), body.at, 0);
        loop {
            let outcome = self.attempt(&client, &mut body).await;
            self.flush(&mut body).await?;
            let (broken, at_least) = match outcome {
                Ok(()) => {
                    let got = Sha256(body.hasher.clone().finalize().into());
                    if got == *self.sha256 {
                        return Ok(());
                    }
                    if !body.patched {
                        return Err(self.wrong(got));
                    }
                    self.progress.warn(format!(
                        "image {}: its pieces do not fit together, fetching it anew",
                        self.place()
                    ));
                    self.restart(&mut body).await?;
                    best = 0;
                    continue;
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(broken, at_least)) => (broken, at_least),
            };
            // A connection that brought something was worth it: the patience is for those that bring nothing.
            if body.at > best {
                (waits, best, attempts) = (delays(), body.at, 0);
            }
            attempts += 1;
            let Some(wait) = waits.next() else {
                return Err(ImageError::Fetch {
                    place: self.place(),
                    attempts,
                    got: body.at,
                    source: broken,
                });
            };
            let wait = at_least.map_or(wait, |at_least| wait.max(at_least.min(Duration::from_secs(60))));
            let told = crate::fault::tell(&Told(&broken));
            self.progress.warn(format!(
                "image {}: {told}; trying again in {:.0} s",
                self.place(),
                wait.as_secs_f64()
            ));
            tokio::time::sleep(wait).await;
        }
    }

    fn place(&self) -> String {
        shown(self.url)
    }

    fn client(&self) -> Result<Client, ImageError> {
        // Fails if it is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            let builder = Client::builder()
                .user_agent(concat!("libvirt-resource/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(self.patience.connect)
                .read_timeout(self.patience.read)
                .redirect(reqwest::redirect::Policy::limited(10));
            if self.patience.proxies {
                builder
            } else {
                builder.no_proxy()
            }
        };
        builder()
            .build()
            .or_else(|error| match self.url.scheme() {
                // Without certificates on the system plain HTTP must work all the same.
                "http" => builder().tls_certs_only([]).build(),
                _ => Err(error),
            })
            .map_err(|source| ImageError::Client {
                place: self.place(),
                source,
            })
    }

    /// Opens what an earlier attempt has left, and hashes it.
    async fn open(&self) -> Result<Body, ImageError> {
        let (path, place) = (self.part.to_owned(), self.place());
        let (file, hasher, at) = blocking(&self.place(), move |stop| {
            let failed = |source| ImageError::Io {
                doing: "open",
                path: path.clone(),
                source,
            };
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(failed)?;
            let (mut hasher, mut at, mut chunk) = (Hasher::new(), 0, vec![0; 1 << 20]);
            loop {
                match file.read(&mut chunk) {
                    Ok(0) => return Ok((file, hasher, at)),
                    Ok(_) if stop.asked() => return Err(ImageError::Stopped { place }),
                    Ok(read) => {
                        hasher.update(&chunk[..read]);
                        at += read as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        })
        .await?;
        if at > 0 {
            let have = crate::units::ByteSize(at);
            self.progress.info(format!(
                "image {}: going on after {have} fetched earlier",
                self.place()
            ));
        }
        let file = BufWriter::with_capacity(1 << 20, File::from_std(file));
        Ok(Body {
            file,
            hasher,
            at,
            whole: None,
            validator: None,
            patched: at > 0,
        })
    }

    async fn restart(&self, body: &mut Body) -> Result<(), ImageError> {
        self.flush(body).await?;
        let emptied = async {
            body.file.get_mut().set_len(0).await?;
            body.file.seek(SeekFrom::Start(0)).await
        };
        emptied
            .await
            .map_err(|error| write_error(error, &self.place(), self.part, 0))?;
        (body.hasher, body.at, body.whole, body.validator, body.patched) =
            (Hasher::new(), 0, None, None, false);
        Ok(())
    }

    async fn flush(&self, body: &mut Body) -> Result<(), ImageError> {
        body.file
            .flush()
            .await
            .map_err(|error| write_error(error, &self.place(), self.part, body.at))
    }

    async fn attempt(&self, client: &Client, body: &mut Body) -> Result<(), Failure> {
        // A transfer encoding would make other bytes of it than those that were hashed.
        let mut request = client.get(self.url.clone()).header(ACCEPT_ENCODING, "identity");
        if body.at > 0 {
            request = request.header(RANGE, format!("bytes={}-", body.at));
            match &body.validator {
                Some(validator) => request = request.header(IF_RANGE, validator),
                None => body.patched = true,
            }
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_redirect() || error.is_builder() => {
                let source = Broken::Connection(error.without_url());
                return Err(ImageError::Fetch {
                    place: self.place(),
                    attempts: 1,
                    got: body.at,
                    source,
                }
                .into());
            }
            Err(error) => return Err(error.into()),
        };
        match response.status() {
            StatusCode::OK => {
                if body.at > 0 {
                    self.progress.info(format!("image {}: the server cannot go on where it broke off, or its file has changed; from the start", self.place()));
                    self.restart(body).await?;
                }
                body.whole = response.content_length();
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = ContentRange::of(response.headers());
                let fits = |range: &ContentRange| {
                    body.at > 0
                        && range.start == Some(body.at)
                        && (body.whole.is_none() || range.whole.is_none() || body.whole == range.whole)
                };
                match range {
                    Some(range) if fits(&range) => body.whole = range.whole.or(body.whole),
                    _ => {
                        let said = response
                            .headers()
                            .get(CONTENT_RANGE)
                            .map(|value| sniff::clean(&String::from_utf8_lossy(value.as_bytes())));
                        self.restart(body).await?;
                        return Err(Failure::Passing(
                            Broken::OtherPart(said.unwrap_or_else(|| "no Content-Range".to_owned())),
                            None,
                        ));
                    }
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE if body.at > 0 => {
                let whole = ContentRange::of(response.headers()).and_then(|range| range.whole);
                if whole == Some(body.at) {
                    // All of it was there already.
                    return Ok(());
                }
                self.restart(body).await?;
                return Err(Failure::Passing(
                    Broken::Status(StatusCode::RANGE_NOT_SATISFIABLE),
                    None,
                ));
            }
            status => return Err(self.refused(status, response).await),
        }
        body.validator = validator(response.headers());
        let left = body.whole.map(|whole| whole.saturating_sub(body.at));
        self.check_room(body.at, left.unwrap_or(0))?;
        self.stream(response, body).await
    }

    async fn stream(&self, mut response: Response, body: &mut Body) -> Result<(), Failure> {
        let mut meter = Meter::new(
            format!("image {}: fetching", self.place()),
            body.at,
            body.whole,
            Instant::now(),
        );
        let mut looked = body.at;
        while let Some(chunk) = response.chunk().await? {
            if body.at == 0 {
                if let Some(alien @ Alien::Html(_)) = sniff::text(&chunk) {
                    return Err(ImageError::NoDisk {
                        place: self.place(),
                        alien,
                    }
                    .into());
                }
            }
            let written = body.file.write_all(&chunk).await;
            written.map_err(|error| write_error(error, &self.place(), self.part, body.at))?;
            body.hasher.update(&chunk);
            body.at += chunk.len() as u64;
            if body.at - looked >= LOOK {
                looked = body.at;
                self.check_room(body.at, 0)?;
            }
            if let Some(line) = meter.line(Instant::now(), body.at) {
                self.progress.info(line);
            }
        }
        match body.whole {
            Some(whole) if body.at < whole => {
                Err(Failure::Passing(Broken::Short { got: body.at, whole }, None))
            }
            _ => Ok(()),
        }
    }

    fn check_room(&self, done: u64, more: u64) -> Result<(), ImageError> {
        let dir = self.part.parent().unwrap_or(Path::new("/"));
        self.limits.check_room(&self.place(), dir, done, more)
    }

    /// What to make of a status that brings no file.
    async fn refused(&self, status: StatusCode, mut response: Response) -> Failure {
        let passing = matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
        if status.is_server_error() || passing {
            let after = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            return Failure::Passing(Broken::Status(status), after.map(Duration::from_secs));
        }
        let page = response
            .chunk()
            .await
            .ok()
            .flatten()
            .and_then(|chunk| sniff::text(&chunk));
        ImageError::Status {
            place: self.place(),
            status,
            page,
        }
        .into()
    }

    fn wrong(&self, got: Sha256) -> ImageError {
        let mut head = Vec::new();
        let read = std::fs::File::open(self.part)
            .and_then(|file| file.take(sniff::HEAD as u64).read_to_end(&mut head));
        let alien = match sniff::sniff(&head) {
            Kind::Alien(alien) if read.is_ok() => Some(Box::new(alien)),
            _ => None,
        };
        ImageError::WrongHash {
            place: self.place(),
            wanted: *self.sha256,
            got,
            alien,
        }
    }
}

/// What vouches for a part belonging to the same file: a strong entity tag (RFC 9110, 13.1.5), or the date.
fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let strong = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    strong.or_else(|| headers.get(LAST_MODIFIED)).cloned()
}

/// The header `Content-Range: bytes FIRST-LAST/WHOLE` or `bytes */WHOLE` (RFC 9110, 14.4).
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    start: Option<u64>,
    whole: Option<u64>,
}

impl ContentRange {
    fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(CONTENT_RANGE)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (range, whole) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let start = range
            .split_once('-')
            .and_then(|(start, _)| start.trim().parse().ok());
        Some(Self {
            start,
            whole: whole.trim().parse().ok(),
        })
    }
}

/// Lends [`crate::fault::tell`] an error without help of its own.
#[derive(Debug)]
struct Told<'a>(&'a Broken);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Told<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl crate::fault::Fault for Told<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_and_a_signature_are_not_shown() {
        let url = Url::parse("https://me:secret@host:8443/a/b.img?X-Amz-Signature=abc#x").unwrap();
        assert_eq!(shown(&url), "https://host:8443/a/b.img?…");
    }

    #[test]
    fn content_ranges_are_read() {
        let parsed = |text| ContentRange::parse(text);
        assert_eq!(
            parsed("bytes 5-9/10"),
            Some(ContentRange {
                start: Some(5),
                whole: Some(10)
            })
        );
        assert_eq!(
            parsed("bytes 5-9/*"),
            Some(ContentRange {
                start: Some(5),
                whole: None
            })
        );
        assert_eq!(
            parsed("bytes */10"),
            Some(ContentRange {
                start: None,
                whole: Some(10)
            })
        );
        assert_eq!(parsed("lines 1-2/3"), None);
    }

    #[test]
    fn a_weak_tag_vouches_for_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, HeaderValue::from_static("W/\"1\""));
        assert_eq!(validator(&headers), None);
        headers.insert(
            LAST_MODIFIED,
            HeaderValue::from_static("Mon, 01 Jan 2024 00:00:00 GMT"),
        );
        assert!(validator(&headers).is_some());
    }

    proptest::proptest! {
        #[test]
        fn no_range_upsets_the_parser(text in "(bytes )?[0-9*/ -]{0,30}") {
            let _ = ContentRange::parse(&text);
        }
    }
}
