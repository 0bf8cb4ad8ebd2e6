//! Carries bytes both ways between two connections.

use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::net::{Shutdown, shutdown};
use tokio::net::TcpStream;

/// What a connection on which little is said needs.
const SMALL: usize = 32 << 10;

/// What a stream needs. Each further doubling up to here brought a tenth of the speed; beyond it nothing.
const LARGE: usize = 1 << 20;

/// How many large ones there are at once; the streams beyond go on with small ones. Keeps the agent's memory bounded,
/// however many streams stand still because nobody reads.
const LARGE_AT_ONCE: usize = 16;

/// How many small and large ones are kept while nobody needs them.
const KEPT: (usize, usize) = (16, 2);

static BUFFERS: Buffers = Buffers(Mutex::new(Shelf {
    small: Vec::new(),
    large: Vec::new(),
    large_out: 0,
}));

/// Buffers belong to no connection: an idle one has none.
#[derive(Debug)]
struct Buffers(Mutex<Shelf>);

#[derive(Debug)]
struct Shelf {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
    large_out: usize,
}

impl Buffers {
    fn small(&'static self) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).small.pop();
        Buffer {
            bytes: kept.unwrap_or_else(|| vec![0; SMALL].into_boxed_slice()),
            shelf: self,
        }
    }

    fn large(&'static self) -> Option<Buffer> {
        let kept = {
            let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if shelf.large_out == LARGE_AT_ONCE {
                return None;
            }
            shelf.large_out += 1;
            shelf.large.pop()
        };
        Some(Buffer {
            bytes: kept.unwrap_or_else(|| vec![0; LARGE].into_boxed_slice()),
            shelf: self,
        })
    }
}

struct Buffer {
    bytes: Box<[u8]>,
    shelf: &'static Buffers,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut shelf = self.shelf.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.len() == LARGE {
            shelf.large_out -= 1;
            if shelf.large.len() < KEPT.1 {
                shelf.large.push(bytes);
            }
        } else if shelf.small.len() < KEPT.0 {
            shelf.small.push(bytes);
        }
    }
}

/// Copies both ways until both have ended. Each end is passed on as it comes (half-close), and what breaks on one side
/// is broken off on the other: whoever reads there must not take it for an orderly end.
pub async fn join(client: TcpStream, node: TcpStream) {
    if tokio::try_join!(pump(&client, &node), pump(&node, &client)).is_err() {
        reset(&client);
        reset(&node);
    }
}

/// Lets a connection end in a reset when it is dropped.
pub fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn pump(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = BUFFERS.small();
        loop {
            // Whoever always finds something to read must let others have their turn.
            tokio::task::consume_budget().await;
            match from.try_read(&mut buffer.bytes) {
                Ok(0) => {
                    // One that is gone altogether has no use for the end.
                    let _ = shutdown(to, Shutdown::Write);
                    return Ok(());
                }
                Ok(count) => {
                    write(to, &buffer.bytes[..count]).await?;
                    if count == SMALL && buffer.bytes.len() == SMALL {
                        if let Some(large) = BUFFERS.large() {
                            buffer = large;
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
}

async fn write(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
