//! Writes blocks in order and hashes them on a second thread.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use erofs_format::{BLOCK, Salt, TreeBuilder, hash_block};

use crate::Error;

/// Bytes written and handed to the hashing thread at once.
const CHUNK: usize = 1 << 20;
/// Chunks that may wait for it.
const QUEUE: usize = 4;

/// The image file while it is written. Bytes are appended in whole blocks.
pub(crate) struct Output<W> {
    out: W,
    start: u64,
    blocks: u64,
    chunk: Vec<u8>,
    hashing: Hashing,
}

struct Hashing {
    work: SyncSender<Vec<u8>>,
    done: Receiver<Vec<u8>>,
    thread: JoinHandle<TreeBuilder>,
}

impl Hashing {
    fn start(salt: Salt) -> io::Result<Self> {
        let (work, incoming) = sync_channel::<Vec<u8>>(QUEUE);
        let (returned, done) = channel();
        let thread = std::thread::Builder::new().name("image-hash".into()).spawn(move || {
            let mut tree = TreeBuilder::new();
            for mut chunk in incoming {
                for block in chunk.chunks(BLOCK) {
                    tree.push(hash_block(&salt, block));
                }
                chunk.clear();
                // The writer may be gone already; then nobody needs the buffer.
                let _ = returned.send(chunk);
            }
            tree
        })?;
        Ok(Self { work, done, thread })
    }
}

impl<W: Write + Seek> Output<W> {
    /// An empty image at the present position of `out`.
    pub(crate) fn new(mut out: W, salt: Salt) -> Result<Self, Error> {
        let start = out.stream_position()?;
        let hashing = Hashing::start(salt)?;
        Ok(Self { out, start, blocks: 0, chunk: Vec::with_capacity(CHUNK), hashing })
    }

    /// Number of the block that is written next.
    pub(crate) fn next_block(&self) -> u64 {
        self.blocks + (self.chunk.len() / BLOCK) as u64
    }

    /// Appends bytes and pads them to a whole block.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if bytes.is_empty() {
                self.chunk.resize(self.chunk.len().next_multiple_of(BLOCK), 0);
            }
            self.flush_full()?;
        }
        Ok(())
    }

    /// Appends what `file` still has to give, whole blocks only, and returns how many bytes it had and the rest
    /// that makes no whole block.
    pub(crate) fn append_blocks_of(&mut self, file: &mut impl Read) -> io::Result<(u64, Vec<u8>)> {
        let mut total = 0;
        loop {
            let before = self.chunk.len();
            let room = CHUNK - before;
            let got = file.by_ref().take(room as u64).read_to_end(&mut self.chunk)?;
            total += got as u64;
            if got < room {
                let whole = self.chunk.len() / BLOCK * BLOCK;
                let tail = self.chunk.split_off(whole);
                return Ok((total, tail));
            }
            self.flush_full()?;
        }
    }

    fn flush_full(&mut self) -> io::Result<()> {
        if self.chunk.len() == CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.chunk)?;
        self.blocks += (self.chunk.len() / BLOCK) as u64;
        let next = self.hashing.done.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        let full = std::mem::replace(&mut self.chunk, next);
        self.hashing.work.send(full).map_err(|_| io::Error::other("the hashing thread ended early"))
    }

    /// Ends the appending: returns the hashes of all blocks and the file.
    pub(crate) fn finish(mut self) -> Result<(TreeBuilder, ImageFile<W>), Error> {
        self.flush()?;
        drop(self.hashing.work);
        let tree = self.hashing.thread.join().map_err(|_| Error::Helper)?;
        Ok((tree, ImageFile { out: self.out, start: self.start }))
    }
}

/// The image file once its data blocks are written: the position is behind them.
pub(crate) struct ImageFile<W> {
    out: W,
    start: u64,
}

impl<W: Write + Seek> ImageFile<W> {
    /// Writes block 0 over what was appended first.
    pub(crate) fn rewrite_first(&mut self, block: &[u8]) -> io::Result<()> {
        let position = self.out.stream_position()?;
        self.out.seek(SeekFrom::Start(self.start))?;
        self.out.write_all(block)?;
        self.out.seek(SeekFrom::Start(position))?;
        Ok(())
    }

    /// Writes what follows the data blocks.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Writes out what the writer may still hold.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
