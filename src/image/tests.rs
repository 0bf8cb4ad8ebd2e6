//! Whole preparations, from files and from a server on the loopback that misbehaves on demand.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256 as Hasher};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;

use super::codec::tests::{ALL, noise, pack};
use super::*;
use crate::fault::tell;
use crate::progress::Event;

/// A store and a place for inputs, and what was told.
struct Room {
    dir: TempDir,
    progress: Progress,
    events: UnboundedReceiver<Event>,
    limits: Limits,
    retries: usize,
}

impl Room {
    fn new() -> Self {
        let (progress, events) = Progress::channel();
        Self {
            dir: tempfile::tempdir().unwrap(),
            progress,
            events,
            limits: Limits::default(),
            retries: 2,
        }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn input(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    async fn prepare(&self, source: &ImageSource) -> Result<Prepared, ImageError> {
        let patience = Patience {
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(2),
            retries: self.retries,
            proxies: false,
            ..Patience::default()
        };
        let store = self.store();
        Preparer {
            store: &store,
            progress: &self.progress,
            limits: self.limits,
            patience,
        }
        .prepare(source)
        .await
    }

    async fn file(&self, name: &str, bytes: &[u8]) -> Result<Prepared, ImageError> {
        self.prepare(&ImageSource::File(self.input(name, bytes))).await
    }

    /// Everything told since the last call.
    fn told(&mut self) -> String {
        std::iter::from_fn(|| self.events.try_recv().ok())
            .map(|event| event.text + "\n")
            .collect()
    }

    fn stored(&self) -> Vec<String> {
        let names = fs::read_dir(self.store()).into_iter().flatten();
        let mut names: Vec<String> = names
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A raw disk of 3 MiB with a boot sector, noise in the middle, zeros elsewhere.
fn raw_disk() -> Vec<u8> {
    let mut disk = vec![0; 3 << 20];
    disk[510..512].copy_from_slice(b"\x55\xaa");
    disk[1 << 20..(1 << 20) + 100_000].copy_from_slice(&noise(100_000));
    disk
}

async fn packed(codec: Codec, bytes: Vec<u8>) -> Vec<u8> {
    tokio::task::spawn_blocking(move || pack(codec, &bytes))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_disk_is_used_in_place() {
    let mut room = Room::new();
    let prepared = room.file("a.img", &raw_disk()).await.unwrap();
    assert_eq!(
        prepared.path,
        room.dir.path().canonicalize().unwrap().join("a.img")
    );
    assert_eq!(
        (prepared.format, prepared.virtual_size),
        (Format::Raw, ByteSize::mib(3))
    );
    let prepared = room.file("b.img", &qcow2::tests::empty(1 << 30)).await.unwrap();
    assert_eq!(
        (prepared.format, prepared.virtual_size),
        (Format::Qcow2, ByteSize::gib(1))
    );
    assert!(!room.store().exists());
    assert!(room.told().contains("used in place"));
}

#[tokio::test]
async fn every_compression_is_unpacked_sparse_and_once() {
    for codec in ALL {
        let mut room = Room::new();
        let path = room.input("misleading.qcow2", &packed(codec, raw_disk()).await);
        let source = ImageSource::File(path);
        let prepared = room.prepare(&source).await.unwrap();
        assert!(fs::read(&prepared.path).unwrap() == raw_disk(), "{codec}");
        assert!(fs::metadata(&prepared.path).unwrap().blocks() * 512 < 1 << 20);
        assert!(room.told().contains(&format!("unpacking ({codec})")));
        assert_eq!(room.prepare(&source).await.unwrap(), prepared);
        assert!(room.told().contains("cached"));
        assert_eq!(room.stored().len(), 1, "{:?}", room.stored());
    }
}

#[tokio::test]
async fn two_at_once_share_the_work() {
    let mut room = Room::new();
    let source = ImageSource::File(room.input("a.gz", &packed(Codec::Gzip, raw_disk()).await));
    let (one, two) = tokio::join!(room.prepare(&source), room.prepare(&source));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(room.told().matches("unpacking (").count(), 1);
    assert_eq!(room.stored().len(), 1);
}

#[tokio::test]
async fn each_bad_file_has_its_own_refusal_and_leaves_nothing() {
    let gz = packed(Codec::Gzip, raw_disk()).await;
    let mut backed = qcow2::tests::empty(1 << 30);
    backed[8..16].copy_from_slice(&200u64.to_be_bytes());
    backed[16..20].copy_from_slice(&4u32.to_be_bytes());
    backed[200..204].copy_from_slice(b"/etc");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            gz[..gz.len() / 2].to_vec(),
            "truncated: its gzip data end in the middle",
        ),
        (
            [&gz[..], b"junk!!!"].concat(),
            "has something else after its gzip data",
        ),
        (
            packed(Codec::Xz, gz.clone()).await,
            "compressed twice: gzip within xz",
        ),
        (
            packed(Codec::Zstd, b"<html><title>Log in</title>".to_vec()).await,
            "an HTML page (\"Log in\")",
        ),
        (
            packed(Codec::Gzip, backed.clone()).await,
            "backing file, \"/etc\"",
        ),
        (backed, "backing file, \"/etc\""),
        (
            qcow2::tests::empty(1 << 30)[..100_000].to_vec(),
            "is truncated: its L1 table",
        ),
        (
            qcow2::tests::empty(100 << 40),
            "says that its disk has 100TiB; 64TiB is the most",
        ),
        (
            packed(Codec::Gzip, qcow2::tests::empty(1 << 30)[..100_000].to_vec()).await,
            "is truncated: its L1 table",
        ),
        (
            vagrant::tests::pack(&[("metadata.json", br#"{"provider":"virtualbox"}"#)]),
            "made for virtualbox",
        ),
        (
            vagrant::tests::pack(&[("oci-layout", b"{}")]),
            "without metadata.json; it holds oci-layout",
        ),
    ];
    for (bytes, words) in cases {
        let room = Room::new();
        let text = tell(&room.file("image", &bytes).await.unwrap_err());
        assert!(text.contains(words) && text.contains("/image"), "{words}: {text}");
        assert_eq!(room.stored(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_bomb_and_a_full_disk_are_refused() {
    let mut room = Room::new();
    room.limits.unpacked = ByteSize::mib(2);
    let gz = packed(Codec::Gzip, raw_disk()).await;
    let text = room.file("a.gz", &gz).await.unwrap_err().to_string();
    assert!(text.contains("more than 2MiB when unpacked"), "{text}");
    room.limits.reserve = 1 << 60;
    let text = room.file("a.gz", &gz).await.unwrap_err().to_string();
    assert!(
        text.contains("not enough space") && text.contains(&(1u64 << 60).to_string()),
        "{text}"
    );
    assert_eq!(room.stored(), Vec::<String>::new());
}

const METADATA: &[u8] = br#"{"provider": "libvirt", "format": "qcow2", "virtual_size": 20}"#;

#[tokio::test]
async fn a_box_is_unpacked_under_any_wrapping_and_name() {
    let disk = qcow2::tests::empty(20 << 30);
    let tar = vagrant::tests::pack(&[("box.img", &disk), ("metadata.json", METADATA)]);
    let mut wrapped = vec![tar.clone()];
    for codec in ALL {
        wrapped.push(packed(codec, tar.clone()).await);
    }
    for bytes in wrapped {
        let room = Room::new();
        let path = room.input("image", &bytes);
        let by_content = room.prepare(&ImageSource::File(path.clone())).await.unwrap();
        assert_eq!(
            (by_content.format, by_content.virtual_size),
            (Format::Qcow2, ByteSize::gib(20))
        );
        assert!(fs::read(&by_content.path).unwrap() == disk);
        assert_eq!(room.prepare(&ImageSource::Box(path)).await.unwrap(), by_content);
    }
    let room = Room::new();
    let error = room
        .prepare(&ImageSource::Box(room.input("a.box", &disk)))
        .await
        .unwrap_err();
    assert!(tell(&error).contains("is no Vagrant box but a qcow2 disk"));
}

/// What the server does with one connection.
#[derive(Clone)]
enum Act {
    /// Sends this much of the body from the asked place, then breaks the connection.
    Break(usize),
    /// Serves the whole rest.
    Serve,
    /// Serves from the start, whatever is asked.
    IgnoreRange,
    /// Answers so, and closes.
    Answer(&'static str),
}

/// Serves `body`, each connection by the next act, the last one again and again; keeps the requests.
async fn server(body: Vec<u8>, acts: Vec<Act>) -> (Url, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!(
        "http://me:secret@{}/disk.img",
        listener.local_addr().unwrap()
    ))
    .unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    tokio::spawn(async move {
        let mut acts = acts.into_iter().peekable();
        while let Ok((stream, _)) = listener.accept().await {
            let act = if acts.len() > 1 {
                acts.next().unwrap()
            } else {
                acts.peek().unwrap().clone()
            };
            let _ = serve(stream, &body, act, &kept).await;
        }
    });
    (url, requests)
}

async fn serve(
    mut stream: TcpStream,
    body: &[u8],
    act: Act,
    kept: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8(request).unwrap().to_ascii_lowercase();
    kept.lock().unwrap().push(request.clone());
    let asked = request
        .split("range: bytes=")
        .nth(1)
        .and_then(|rest| rest.split('-').next()?.parse::<usize>().ok());
    let from = if matches!(act, Act::IgnoreRange) {
        0
    } else {
        asked.unwrap_or(0)
    };
    let whole = body.len();
    let head = if from > 0 && from >= whole {
        format!("416 No\r\nContent-Range: bytes */{whole}\r\nContent-Length: 0")
    } else if from > 0 {
        format!(
            "206 Part\r\nContent-Range: bytes {from}-{}/{whole}\r\nContent-Length: {}",
            whole - 1,
            whole - from
        )
    } else {
        format!("200 OK\r\nContent-Length: {whole}")
    };
    let head = format!("HTTP/1.1 {head}\r\nETag: \"one\"\r\nConnection: close\r\n\r\n");
    let rest = body.get(from..).unwrap_or_default();
    match act {
        Act::Answer(text) => stream.write_all(text.as_bytes()).await?,
        Act::Break(count) => {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&rest[..count.min(rest.len())]).await?;
        }
        Act::Serve | Act::IgnoreRange => {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(rest).await?;
        }
    }
    stream.shutdown().await
}

fn digest(bytes: &[u8]) -> Sha256 {
    Sha256(Hasher::digest(bytes).into())
}

fn source(url: &Url, bytes: &[u8]) -> ImageSource {
    ImageSource::Url {
        url: url.clone(),
        sha256: digest(bytes),
    }
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let mut room = Room::new();
    let disk = raw_disk();
    let (url, requests) = server(
        disk.clone(),
        vec![Act::Break(1 << 20), Act::Break(1 << 20), Act::Serve],
    )
    .await;
    let prepared = room.prepare(&source(&url, &disk)).await.unwrap();
    assert!(fs::read(&prepared.path).unwrap() == disk);
    let seen = requests.lock().unwrap().clone();
    assert_eq!(seen.len(), 3);
    assert!(
        !seen[0].contains("\r\nrange:")
            && seen[1].contains("\r\nrange: bytes=")
            && seen[1].contains("if-range: \"one\"")
    );
    assert!(seen[0].contains("authorization: basic"), "the login is used");
    let told = room.told();
    assert!(
        told.contains("trying again") && !told.contains("secret"),
        "{told}"
    );

    assert_eq!(room.prepare(&source(&url, &disk)).await.unwrap(), prepared);
    assert!(room.told().contains("cached"));
    assert_eq!(requests.lock().unwrap().len(), 3, "the cache needs no network");
}

#[tokio::test]
async fn what_an_earlier_run_fetched_is_used_and_checked() {
    let disk = raw_disk();
    for (left, requests_expected) in [
        (disk[..1 << 20].to_vec(), 1),
        (noise(1 << 20), 2),
        (disk.clone(), 1),
        (noise(4 << 20), 2),
    ] {
        let room = Room::new();
        let (url, requests) = server(disk.clone(), vec![Act::Serve]).await;
        fs::create_dir(room.store()).unwrap();
        fs::write(Shelf::of_digest(&room.store(), &digest(&disk)).part(), left).unwrap();
        let prepared = room.prepare(&source(&url, &disk)).await.unwrap();
        assert!(fs::read(&prepared.path).unwrap() == disk);
        assert_eq!(requests.lock().unwrap().len(), requests_expected);
        assert_eq!(room.stored().len(), 1);
    }
}

#[tokio::test]
async fn a_server_without_ranges_serves_anew() {
    let room = Room::new();
    let disk = raw_disk();
    let (url, _) = server(disk.clone(), vec![Act::Break(1 << 20), Act::IgnoreRange]).await;
    let prepared = room.prepare(&source(&url, &disk)).await.unwrap();
    assert!(fs::read(&prepared.path).unwrap() == disk);
}

#[tokio::test]
async fn another_part_than_asked_for_is_not_appended() {
    let room = Room::new();
    let disk = raw_disk();
    let other =
        "HTTP/1.1 206 Part\r\nContent-Range: bytes 7-8/9\r\nContent-Length: 2\r\nConnection: close\r\n\r\nxx";
    let (url, _) = server(
        disk.clone(),
        vec![Act::Break(1 << 20), Act::Answer(other), Act::Serve],
    )
    .await;
    let prepared = room.prepare(&source(&url, &disk)).await.unwrap();
    assert!(fs::read(&prepared.path).unwrap() == disk);
}

#[tokio::test]
async fn a_server_that_never_recovers_is_given_up_and_the_part_kept() {
    let room = Room::new();
    let disk = raw_disk();
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (url, _) = server(disk.clone(), vec![Act::Break(1 << 20), Act::Answer(busy)]).await;
    let text = tell(&room.prepare(&source(&url, &disk)).await.unwrap_err());
    assert!(
        text.contains("cannot fetch http://127.0.0.1") && text.contains("503") && !text.contains("secret"),
        "{text}"
    );
    assert!(room.stored().iter().all(|name| name.ends_with(".part")) && room.stored().len() == 1);
}

#[tokio::test]
async fn a_wrong_digest_names_both_and_keeps_nothing() {
    let room = Room::new();
    let disk = raw_disk();
    let (url, _) = server(disk.clone(), vec![Act::Serve]).await;
    let wanted = Sha256([7; 32]);
    let text = tell(
        &room
            .prepare(&ImageSource::Url { url, sha256: wanted })
            .await
            .unwrap_err(),
    );
    assert!(
        text.contains(&wanted.to_string()) && text.contains(&digest(&disk).to_string()),
        "{text}"
    );
    assert_eq!(room.stored(), Vec::<String>::new());
}

#[tokio::test]
async fn a_page_is_refused_whatever_its_digest() {
    let page = b"<!doctype html><title>Mirror list</title>".to_vec();
    for sha256 in [digest(&page), Sha256([0; 32])] {
        let room = Room::new();
        let (url, _) = server(page.clone(), vec![Act::Serve]).await;
        let text = tell(&room.prepare(&ImageSource::Url { url, sha256 }).await.unwrap_err());
        assert!(
            text.contains("is no disk but an HTML page (\"Mirror list\")"),
            "{text}"
        );
        assert_eq!(room.stored(), Vec::<String>::new());
    }
    let room = Room::new();
    let (url, _) = server(b"{}".to_vec(), vec![Act::Serve]).await;
    let text = tell(
        &room
            .prepare(&ImageSource::Url {
                url,
                sha256: Sha256([0; 32]),
            })
            .await
            .unwrap_err(),
    );
    assert!(text.contains("what was served is a JSON document"), "{text}");
}

#[tokio::test]
async fn a_refusal_is_told_with_its_status_and_not_repeated() {
    for (answer, words) in [("404 Not Found", "status 404"), ("403 Forbidden", "status 403")] {
        let room = Room::new();
        let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>");
        let (url, requests) = server(Vec::new(), vec![Act::Answer(answer.leak())]).await;
        let text = tell(&room.prepare(&source(&url, b"")).await.unwrap_err());
        assert!(
            text.contains(words) && text.contains("HTML page") && !text.contains("secret"),
            "{text}"
        );
        assert_eq!(requests.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever() {
    let disk = raw_disk();
    let room = Room::new();
    let redirect =
        "HTTP/1.1 302 Found\r\nLocation: /real.img\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (url, _) = server(disk.clone(), vec![Act::Answer(redirect), Act::Serve]).await;
    assert!(room.prepare(&source(&url, &disk)).await.is_ok());
    let room = Room::new();
    let (url, requests) = server(disk.clone(), vec![Act::Answer(redirect)]).await;
    let text = tell(&room.prepare(&source(&url, &disk)).await.unwrap_err());
    assert!(text.contains("redirect"), "{text}");
    assert_eq!(requests.lock().unwrap().len(), 11);
}

#[tokio::test]
async fn a_compressed_download_is_unpacked_and_its_packing_removed() {
    let room = Room::new();
    let packed = packed(Codec::Zstd, raw_disk()).await;
    let (url, _) = server(packed.clone(), vec![Act::Serve]).await;
    let prepared = room.prepare(&source(&url, &packed)).await.unwrap();
    assert!(fs::read(&prepared.path).unwrap() == raw_disk());
    assert_eq!(room.stored().len(), 1);
}

#[tokio::test]
async fn giving_up_leaves_at_most_the_part() {
    let room = Room::new();
    // A server that never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/disk.img", listener.local_addr().unwrap())).unwrap();
    let wanted = source(&url, b"");
    tokio::select! {
        _ = room.prepare(&wanted) => panic!("there was no answer"),
        _ = listener.accept() => {}
    }
    assert!(
        room.stored().iter().all(|name| name.ends_with(".part")),
        "{:?}",
        room.stored()
    );
}
