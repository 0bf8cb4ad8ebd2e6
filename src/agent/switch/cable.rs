//! The cable of one NIC: QEMU's `-netdev socket`, each frame behind its length in four bytes, big-endian.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::core::Input;

/// Longer than any frame that a NIC sends (MTU 65535 at the most, and its Ethernet header).
const LONGEST: u32 = 65_535 + 18;

/// Frames that wait for a guest that does not take them; what is too much is dropped, as on every network.
const QUEUE: usize = 256;

/// Lets a QEMU plug in, and the next one when it has gone: a node that is switched on again is a new process. One at a
/// time: whoever else connects waits.
pub(super) async fn serve(listener: TcpListener, port: usize, core: mpsc::Sender<Input>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = carry(stream, port, &core).await;
        if core.send(Input::Unplugged { port }).await.is_err() {
            return;
        }
    }
}

async fn carry(stream: TcpStream, port: usize, core: &mpsc::Sender<Input>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let (sender, frames) = mpsc::channel(QUEUE);
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    core.send(Input::Plugged { port, sender }).await.map_err(gone)?;
    tokio::select! {
        ended = from_guest(read, port, core) => ended,
        ended = to_guest(write, frames) => ended,
    }
}

async fn from_guest(read: OwnedReadHalf, port: usize, core: &mpsc::Sender<Input>) -> io::Result<()> {
    let mut read = BufReader::with_capacity(64 << 10, read);
    loop {
        let length = read.read_u32().await?;
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut frame = vec![0; length as usize];
        read.read_exact(&mut frame).await?;
        let sent = core.send(Input::Frame { port, frame }).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    }
}

async fn to_guest(write: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut write = BufWriter::with_capacity(64 << 10, write);
    while let Some(mut frame) = frames.recv().await {
        loop {
            write.write_u32(frame.len() as u32).await?;
            write.write_all(&frame).await?;
            match frames.try_recv() {
                Ok(next) => frame = next,
                Err(_) => break,
            }
        }
        write.flush().await?;
    }
    Ok(())
}
