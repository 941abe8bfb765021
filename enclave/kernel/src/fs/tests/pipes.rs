//! Pipes, event counters, polling.

use super::*;

const POLLIN: u16 = 1;
const POLLOUT: u16 = 4;
const POLLERR: u16 = 8;
const POLLHUP: u16 = 16;

fn pipe(w: &World, flags: u64) -> (u64, u64) {
    w.call(293, [MEMORY, flags]).unwrap();
    let fds = w.peek(MEMORY, 8);
    let at = |index: usize| u64::from(u32::from_le_bytes(fds[index..index + 4].try_into().unwrap()));
    (at(0), at(4))
}

fn poll(w: &World, fds: &[(i32, u16)], timeout_ms: i32) -> (Result<u64, Errno>, Vec<u16>) {
    let bytes: Vec<u8> = fds
        .iter()
        .flat_map(|(fd, events)| [fd.to_le_bytes().to_vec(), events.to_le_bytes().to_vec(), vec![0xff; 2]])
        .flatten()
        .collect();
    w.poke(MEMORY, &bytes);
    let result = w.call(7, [MEMORY, fds.len() as u64, timeout_ms as u64]);
    let rows = w.peek(MEMORY, bytes.len());
    (result, rows.chunks(8).map(|row| u16::from_le_bytes([row[6], row[7]])).collect())
}

#[test]
fn bytes_go_through_a_pipe_in_order() {
    let w = World::new();
    let (reader, writer) = pipe(&w, 0);
    w.write(writer, b"hello ").unwrap();
    w.write(writer, b"world").unwrap();
    assert_eq!(w.read(reader, 8), Ok(b"hello wo".to_vec()));
    assert_eq!(w.read(reader, 8), Ok(b"rld".to_vec()));
    w.write(writer, b"last").unwrap();
    w.call(3, [writer]).unwrap();
    assert_eq!(w.read(reader, 8), Ok(b"last".to_vec()));
    assert_eq!(w.read(reader, 8), Ok(Vec::new()));
    assert_eq!(w.call(8, [reader, 0, 1]), Err(Errno::ESPIPE));
    assert_eq!(w.call(17, [reader, MEMORY, 1, 0]), Err(Errno::ESPIPE));
    assert_eq!(w.call(17, [reader, u64::MAX, 1, 0]), Err(Errno::ESPIPE), "before it looks at the buffer");
    assert_eq!(w.read(0x7fff, 1), Err(Errno::EBADF));
}

#[test]
fn a_full_pipe_says_eagain_and_small_writes_are_whole() {
    let w = World::new();
    let (reader, writer) = pipe(&w, O_NONBLOCK);
    assert_eq!(w.read(reader, 1), Err(Errno::EAGAIN));
    assert_eq!(w.write(writer, &[1; 65_000]), Ok(65_000));
    assert_eq!(w.write(writer, &[2; 1000]), Err(Errno::EAGAIN), "atomic: all or nothing");
    assert_eq!(w.write(writer, &[2; 5000]), Err(Errno::EAGAIN), "nor do the 904 bytes beyond a page fit");
    assert_eq!(w.write(writer, &[2; 4096 + 536]), Ok(536));
    assert_eq!(w.write(writer, b"x"), Err(Errno::EAGAIN));
    assert_eq!(poll(&w, &[(writer as i32, POLLOUT)], 0).0, Ok(0));
    assert_eq!(w.read(reader, 5000).unwrap().len(), 5000);
    assert_eq!(poll(&w, &[(writer as i32, POLLOUT)], 0).0, Ok(1));
    let mut rest = Vec::new();
    while let Ok(part) = w.read(reader, 7777) {
        rest.extend(part);
    }
    assert_eq!(rest.len(), 65_536 - 5000);
    assert_eq!(rest[60_000..], [2; 536]);
}

#[test]
fn many_small_writes_use_little_memory_and_large_ones_keep_order() {
    let w = World::new();
    let (reader, writer) = pipe(&w, O_NONBLOCK);
    for byte in 0..=255u8 {
        w.write(writer, &[byte; 3]).unwrap();
        w.write(writer, &vec![byte; usize::from(byte) * 20 + 1]).unwrap();
        let read = w.read(reader, 60_000).unwrap();
        assert_eq!(read, vec![byte; usize::from(byte) * 20 + 4]);
    }
}

#[test]
fn writing_where_nobody_reads_is_epipe() {
    let w = World::new();
    let (reader, writer) = pipe(&w, 0);
    w.call(3, [reader]).unwrap();
    assert_eq!(w.write(writer, b"x"), Err(Errno::EPIPE));
    let pending = w.process.threads()[0].signals.pending();
    assert_eq!(pending.0, 1 << 12, "SIGPIPE, to the thread that wrote");
    assert_eq!(poll(&w, &[(writer as i32, POLLIN)], 0), (Ok(1), vec![POLLERR]));
}

#[test]
fn a_bad_pointer_loses_no_bytes() {
    let w = World::new();
    let (reader, writer) = pipe(&w, O_NONBLOCK);
    w.write(writer, b"keep").unwrap();
    assert_eq!(w.call(0, [reader, 8, 4]), Err(Errno::EFAULT));
    assert_eq!(w.read(reader, 9), Ok(b"keep".to_vec()));
    assert_eq!(w.call(1, [writer, 8, 4]), Err(Errno::EFAULT));
    assert_eq!(w.read(reader, 9), Err(Errno::EAGAIN));
    assert_eq!(w.call(293, [8, 0]), Err(Errno::EFAULT));
    assert_eq!(w.call(293, [MEMORY, 1]), Err(Errno::EINVAL));
}

#[test]
fn what_cannot_be_read_written_or_executed_says_so_before_it_looks_at_more() {
    let w = World::new();
    let outside = 0xffff_8000_0000_0000;
    let epoll = w.call(291, [0]).unwrap();
    let timer = w.call(283, [1, O_NONBLOCK]).unwrap();
    assert_eq!(w.call(0, [epoll, outside, 8]), Err(Errno::EINVAL));
    assert_eq!(w.call(1, [timer, outside, 8]), Err(Errno::EINVAL));
    assert_eq!(w.call(0, [timer, outside, 8]), Err(Errno::EFAULT));
    let (reader, writer) = pipe(&w, 0);
    // mmap with PROT_READ, and PROT_EXEC or not, MAP_PRIVATE.
    assert_eq!(w.call(9, [0, 4096, 1, 2, reader, 0]), Err(Errno::ENODEV));
    assert_eq!(w.call(9, [0, 4096, 5, 2, reader, 0]), Err(Errno::EPERM));
    assert_eq!(w.call(9, [0, 4096, 5, 2, writer, 0]), Err(Errno::EACCES));
}

/// Does something on another host thread when this one, which waits, sleeps.
fn meanwhile(w: &World, then: impl FnOnce(&World) + Send, wait: impl FnOnce(&World)) {
    w.process.threads()[0].attach();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            FakePlatform::become_thread(1);
            let sleeps = w.platform.falls_asleep(0);
            then(w);
            assert!(sleeps, "who waits sleeps");
        });
        wait(w);
    });
}

#[test]
fn a_blocked_reader_is_woken_by_a_writer() {
    let w = World::new();
    let (reader, writer) = pipe(&w, 0);
    w.poke(MEMORY + 0x8000, b"now");
    meanwhile(
        &w,
        |w| assert_eq!(w.call(1, [writer, MEMORY + 0x8000, 3]), Ok(3)),
        |w| assert_eq!(w.read(reader, 9), Ok(b"now".to_vec())),
    );
}

#[test]
fn a_blocked_writer_is_woken_by_a_reader() {
    let w = World::new();
    let (reader, writer) = pipe(&w, 0);
    // The other host thread stands in for another process and must not sleep in the name of this one.
    w.call(72, [reader, 4, O_NONBLOCK]).unwrap();
    meanwhile(
        &w,
        |w| {
            let mut left = 200_000;
            while left > 0 {
                left -= w.call(0, [reader, MEMORY + 0x80000, 9999]).unwrap_or(0);
            }
        },
        |w| assert_eq!(w.write(writer, &vec![7; 200_000]), Ok(200_000)),
    );
}

#[test]
fn polls_and_epoll_waits_are_woken() {
    let w = World::new();
    let (reader, writer) = pipe(&w, 0);
    w.poke(MEMORY + 0x8000, b"now");
    let wake = |w: &World| assert_eq!(w.call(1, [writer, MEMORY + 0x8000, 3]), Ok(3));
    meanwhile(&w, wake, |w| assert_eq!(poll(w, &[(reader as i32, POLLIN)], -1), (Ok(1), vec![POLLIN])));
    w.read(reader, 9).unwrap();
    let epoll = w.call(291, [0]).unwrap();
    watch(&w, epoll, 1, reader, 1).unwrap();
    meanwhile(&w, wake, |w| assert_eq!(w.call(232, [epoll, MEMORY, 10, u64::MAX]), Ok(1)));
}

/// Sends a signal that has a handler to the process when it sleeps in `wait`.
fn meanwhile_signalled(w: &World, wait: impl FnOnce(&World)) {
    w.handle_signals();
    meanwhile(w, World::send_signal, wait);
}

#[test]
fn a_signal_ends_a_wait() {
    let w = World::new();
    let (reader, _) = pipe(&w, 0);
    meanwhile_signalled(&w, |w| assert_eq!(w.read(reader, 9), Err(Errno::ERESTARTSYS)));
    assert_eq!(poll(&w, &[(reader as i32, POLLIN)], -1).0, Err(Errno::ERESTARTNOHAND));
}

#[test]
fn polling_reports_what_is_there() {
    let w = World::new();
    let (reader, writer) = pipe(&w, 0);
    let (r, wr) = (reader as i32, writer as i32);
    assert_eq!(poll(&w, &[(r, POLLIN), (wr, POLLOUT), (-1, POLLIN)], 0), (Ok(1), vec![0, POLLOUT, 0]));
    assert_eq!(poll(&w, &[(r, POLLIN)], 5), (Ok(0), vec![0]));
    w.write(writer, b"x").unwrap();
    assert_eq!(poll(&w, &[(r, POLLIN), (99, POLLIN)], -1), (Ok(2), vec![POLLIN, 0x20]));
    w.call(3, [writer]).unwrap();
    assert_eq!(poll(&w, &[(r, POLLIN)], -1), (Ok(1), vec![POLLIN | POLLHUP]));
    w.make("/f", b"");
    let file = w.open("/f", 0).unwrap() as i32;
    assert_eq!(poll(&w, &[(file, POLLIN | POLLOUT)], -1), (Ok(1), vec![POLLIN | POLLOUT]));
}

#[test]
fn select_reports_in_its_sets() {
    let w = World::new();
    let (reader, writer) = pipe(&w, 0);
    let bits = (1u64 << reader) | (1 << writer);
    w.poke(MEMORY, &bits.to_le_bytes());
    w.poke(MEMORY + 8, &bits.to_le_bytes());
    w.poke(MEMORY + 16, &[0; 16]);
    let count = writer + 1;
    assert_eq!(w.call(23, [count, MEMORY, MEMORY + 8, 0, MEMORY + 16]), Ok(1));
    assert_eq!((w.peek_u64(MEMORY), w.peek_u64(MEMORY + 8)), (0, 1 << writer));
    w.poke(MEMORY, &(1u64 << 40).to_le_bytes());
    assert_eq!(w.call(23, [64, MEMORY, 0, 0, MEMORY + 16]), Err(Errno::EBADF));
}

#[test]
fn an_event_counter_counts() {
    let w = World::new();
    let fd = w.call(290, [5, O_NONBLOCK]).unwrap();
    assert_eq!(w.read(fd, 8), Ok(5u64.to_le_bytes().to_vec()));
    assert_eq!(w.read(fd, 8), Err(Errno::EAGAIN));
    assert_eq!(w.read(fd, 4), Err(Errno::EINVAL));
    w.write(fd, &2u64.to_le_bytes()).unwrap();
    w.write(fd, &3u64.to_le_bytes()).unwrap();
    assert_eq!(w.write(fd, &(u64::MAX - 1).to_le_bytes()), Err(Errno::EAGAIN));
    assert_eq!(w.write(fd, &u64::MAX.to_le_bytes()), Err(Errno::EINVAL));
    assert_eq!(w.read(fd, 8), Ok(5u64.to_le_bytes().to_vec()));
    let semaphore = w.call(290, [2, O_NONBLOCK | 1]).unwrap();
    assert_eq!(w.read(semaphore, 8), Ok(1u64.to_le_bytes().to_vec()));
    assert_eq!(w.read(semaphore, 8), Ok(1u64.to_le_bytes().to_vec()));
    assert_eq!(w.read(semaphore, 8), Err(Errno::EAGAIN));
}

#[test]
fn who_adds_too_much_to_an_event_counter_sleeps_until_it_is_read() {
    let w = World::new();
    let fd = w.call(290, [0, 0]).unwrap();
    w.write(fd, &(u64::MAX - 5).to_le_bytes()).unwrap();
    assert_eq!(
        poll(&w, &[(fd as i32, POLLIN | POLLOUT)], 0).1,
        [POLLIN | POLLOUT],
        "there is room for a little"
    );
    let read = |w: &World| {
        assert_eq!(w.call(0, [fd, MEMORY + 0x8000, 8]), Ok(8));
        assert_eq!(w.peek_u64(MEMORY + 0x8000), u64::MAX - 5);
    };
    meanwhile(&w, read, |w| assert_eq!(w.write(fd, &5u64.to_le_bytes()), Ok(8)));
    assert_eq!(w.read(fd, 8), Ok(5u64.to_le_bytes().to_vec()));
}

#[test]
fn who_adds_too_much_to_a_semaphore_counter_sleeps_until_enough_is_taken() {
    let w = World::new();
    let fd = w.call(290, [0, 1]).unwrap();
    w.write(fd, &(u64::MAX - 1).to_le_bytes()).unwrap();
    assert_eq!(poll(&w, &[(fd as i32, POLLIN | POLLOUT)], 0).1, [POLLIN], "it is full");
    let read = |w: &World| {
        for _ in 0..3 {
            assert!(w.platform.falls_asleep(0), "what was taken is not enough");
            assert_eq!(w.call(0, [fd, MEMORY + 0x8000, 8]), Ok(8));
        }
    };
    meanwhile(&w, read, |w| assert_eq!(w.write(fd, &3u64.to_le_bytes()), Ok(8)));
    assert_eq!(poll(&w, &[(fd as i32, POLLIN | POLLOUT)], 0).1, [POLLIN]);
}

#[test]
fn a_signal_ends_the_wait_for_room_in_an_event_counter() {
    let w = World::new();
    let fd = w.call(290, [1, 0]).unwrap();
    let full = (u64::MAX - 1).to_le_bytes();
    meanwhile_signalled(&w, |w| assert_eq!(w.write(fd, &full), Err(Errno::ERESTARTSYS)));
    assert_eq!(w.read(fd, 8), Ok(1u64.to_le_bytes().to_vec()), "nothing was added");
}

/// Adds an interest; `events` as of EPOLL*.
fn watch(w: &World, epoll: u64, operation: u64, fd: u64, events: u32) -> Result<u64, Errno> {
    let mut bytes = events.to_le_bytes().to_vec();
    bytes.extend_from_slice(&(fd * 100).to_le_bytes());
    w.poke(MEMORY, &bytes);
    w.call(233, [epoll, operation, fd, MEMORY])
}

/// Events and data of a wait without a timeout.
fn wait(w: &World, epoll: u64) -> Vec<(u32, u64)> {
    let found = w.call(232, [epoll, MEMORY, 10, 0]).unwrap() as usize;
    let bytes = w.peek(MEMORY, found * 12);
    let parse = |event: &[u8]| {
        let events = u32::from_le_bytes(event[..4].try_into().unwrap());
        (events, u64::from_le_bytes(event[4..].try_into().unwrap()))
    };
    bytes.chunks(12).map(parse).collect()
}

#[test]
fn epoll_reports_levels_edges_and_single_shots() {
    const ET: u32 = 1 << 31;
    const ONESHOT: u32 = 1 << 30;
    let w = World::new();
    let epoll = w.call(291, [0]).unwrap();
    let (reader, writer) = pipe(&w, O_NONBLOCK);
    assert_eq!(watch(&w, epoll, 1, reader, 1), Ok(0));
    assert_eq!(watch(&w, epoll, 1, reader, 1), Err(Errno::EEXIST));
    assert_eq!(watch(&w, epoll, 3, writer, 4), Err(Errno::ENOENT));
    assert_eq!(watch(&w, epoll, 1, epoll, 1), Err(Errno::EINVAL));
    assert_eq!(wait(&w, epoll), []);
    w.write(writer, b"x").unwrap();
    assert_eq!(wait(&w, epoll), [(1, reader * 100)]);
    assert_eq!(wait(&w, epoll), [(1, reader * 100)]);
    watch(&w, epoll, 3, reader, 1 | ET).unwrap();
    assert_eq!(wait(&w, epoll), [(1, reader * 100)]);
    assert_eq!(wait(&w, epoll), [], "an edge is reported once");
    w.write(writer, b"y").unwrap();
    assert_eq!(wait(&w, epoll), [(1, reader * 100)], "new data is a new edge");
    watch(&w, epoll, 3, reader, 1 | ONESHOT).unwrap();
    assert_eq!(wait(&w, epoll).len(), 1);
    w.write(writer, b"z").unwrap();
    assert_eq!(wait(&w, epoll), []);
    watch(&w, epoll, 3, reader, 1).unwrap();
    let (epoll2, fd) = (w.call(291, [0]).unwrap(), epoll);
    watch(&w, epoll2, 1, fd, 1).unwrap();
    assert_eq!(wait(&w, epoll2), [(1, epoll * 100)]);
    assert_eq!(watch(&w, epoll, 1, epoll2, 1), Err(Errno::ELOOP));
    w.call(3, [reader]).unwrap();
    assert_eq!(wait(&w, epoll), [], "a closed file is forgotten");
    w.make("/f", b"");
    let file = w.open("/f", 0).unwrap();
    assert_eq!(watch(&w, epoll, 1, file, 1), Err(Errno::EPERM));
}

#[test]
fn an_instance_that_watches_another_hears_of_what_is_ready_and_of_nothing_else() {
    const ET: u32 = 1 << 31;
    let w = World::new();
    let (inner, outer) = (w.call(291, [0]).unwrap(), w.call(291, [0]).unwrap());
    let (reader, writer) = pipe(&w, O_NONBLOCK);
    let (silent, _other) = pipe(&w, O_NONBLOCK);
    watch(&w, inner, 1, reader, 1).unwrap();
    watch(&w, outer, 1, inner, 1 | ET).unwrap();
    assert_eq!(wait(&w, outer), []);
    w.write(writer, b"x").unwrap();
    assert_eq!(wait(&w, outer), [(1, inner * 100)]);
    watch(&w, inner, 1, silent, 1).unwrap();
    assert_eq!(wait(&w, outer), [], "what is watched too is not ready");
    assert_eq!(wait(&w, inner), [(1, reader * 100)]);
    assert_eq!(wait(&w, outer), [], "a level that was seen is no new edge");
    watch(&w, inner, 3, reader, 1).unwrap();
    assert_eq!(wait(&w, outer), [(1, inner * 100)], "it is asked for anew");
    let copy = w.call(32, [inner]).unwrap();
    assert_eq!(watch(&w, inner, 1, copy, 1), Err(Errno::EINVAL), "it is the same instance");
}

#[test]
fn instances_watch_one_another_through_few_others_and_never_themselves() {
    const ADD: u64 = 1;
    const DEL: u64 = 2;
    let w = World::new();
    let instances: Vec<u64> = (0..7).map(|_| w.call(291, [0]).unwrap()).collect();
    let add = |from: usize, to: usize| watch(&w, instances[from], ADD, instances[to], 1);
    (0..4).for_each(|at| assert_eq!(add(at, at + 1), Ok(0), "{at}"));
    assert_eq!(add(4, 5), Err(Errno::ELOOP), "from above");
    assert_eq!(add(5, 0), Err(Errno::ELOOP), "from below");
    assert_eq!(add(1, 0), Err(Errno::ELOOP), "in a circle");
    assert_eq!(watch(&w, instances[0], DEL, instances[1], 0), Ok(0));
    assert_eq!(add(4, 5), Ok(0));

    // What was ready in the one is not asked any more once it is removed.
    let (reader, writer) = pipe(&w, O_NONBLOCK);
    let (one, other) = (w.call(291, [0]).unwrap(), w.call(291, [0]).unwrap());
    watch(&w, one, ADD, other, 1).unwrap();
    watch(&w, other, ADD, reader, 1).unwrap();
    w.write(writer, b"x").unwrap();
    assert_eq!(poll(&w, &[(one as i32, POLLIN)], 0).0, Ok(1));
    watch(&w, one, DEL, other, 0).unwrap();
    watch(&w, other, ADD, one, 1).unwrap();
    assert_eq!(poll(&w, &[(one as i32, POLLIN), (other as i32, POLLIN)], 0).1, [0, POLLIN]);
}

#[test]
fn a_fifo_connects_those_who_open_it() {
    let w = World::new();
    w.call(133, [w.path("/fifo"), 0o010_644, 0]).unwrap();
    assert_eq!(w.open("/fifo", O_WRONLY | O_NONBLOCK), Err(Errno::ENXIO));
    let reader = w.open("/fifo", O_NONBLOCK).unwrap();
    assert_eq!(poll(&w, &[(reader as i32, POLLIN)], 0).0, Ok(0));
    let writer = w.open("/fifo", O_WRONLY).unwrap();
    w.write(writer, b"through").unwrap();
    assert_eq!(w.read(reader, 9), Ok(b"through".to_vec()));
    w.call(3, [writer]).unwrap();
    assert_eq!(w.read(reader, 9), Ok(Vec::new()));
}

#[test]
fn splice_into_a_pipe_moves_what_has_room_and_waits_for_nothing_more() {
    let w = World::new();
    w.make("/f", &[7; 70_000]);
    let file = w.open("/f", 0).unwrap();
    let (_reader, writer) = pipe(&w, 0);
    w.write(writer, b"x").unwrap();
    assert_eq!(w.call(275, [file, 0, writer, 0, 70_000, 0]), Ok(15 * 4096));
    let nonblocking = 2;
    assert_eq!(w.call(275, [file, 0, writer, 0, 70_000, nonblocking]), Err(Errno::EAGAIN));
    assert_eq!(w.call(8, [file, 0, 1]), Ok(15 * 4096), "nothing is read that cannot be written");
}

#[test]
fn splice_moves_between_file_and_pipe() {
    let w = World::new();
    w.make("/f", b"spliced");
    let file = w.open("/f", 0).unwrap();
    let (reader, writer) = pipe(&w, O_NONBLOCK);
    assert_eq!(w.call(275, [file, 0, writer, 0, 100, 0]), Ok(7));
    let out = w.open("/g", O_CREAT | O_RDWR).unwrap();
    assert_eq!(w.call(275, [file, 0, out, 0, 100, 0]), Err(Errno::EINVAL));
    assert_eq!(w.call(275, [reader, 0, out, 0, 100, 0]), Ok(7));
    assert_eq!(w.cat("/g"), Ok(b"spliced".to_vec()));
}

#[test]
fn a_timer_file_counts_its_expirations_by_the_clock() {
    let w = World::new();
    w.process.threads()[0].attach();
    let fd = w.call(283, [1, O_NONBLOCK]).unwrap();
    let set = |words: [u64; 4]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        w.poke(MEMORY, &bytes);
        w.call(286, [fd, 0, MEMORY, MEMORY + 64]).unwrap();
    };
    assert_eq!(w.read(fd, 8), Err(Errno::EAGAIN));
    set([0, 100, 0, 1000]);
    w.platform.advance(1350);
    w.call(287, [fd, MEMORY]).unwrap();
    assert_eq!((w.peek_u64(MEMORY + 8), w.peek_u64(MEMORY + 24)), (100, 50));
    assert_eq!(w.read(fd, 8), Ok(4u64.to_le_bytes().to_vec()));
    assert_eq!(w.read(fd, 8), Err(Errno::EAGAIN));
    set([0, 0, 5, 0]);
    // The clock of the platform moves when a thread sleeps: poll must know until when.
    assert_eq!(poll(&w, &[(fd as i32, POLLIN)], -1), (Ok(1), vec![POLLIN]));
    assert_eq!(w.read(fd, 8), Ok(1u64.to_le_bytes().to_vec()));
    set([0, 0, 5, 0]);
    let epoll = w.call(291, [0]).unwrap();
    watch(&w, epoll, 1, fd, 1).unwrap();
    assert_eq!(w.call(232, [epoll, MEMORY, 10, 1000]), Ok(0));
    assert_eq!(w.call(232, [epoll, MEMORY, 10, u64::MAX]), Ok(1));
    assert_eq!(w.call(286, [1, 0, MEMORY, 0]), Err(Errno::EINVAL));
}

#[test]
fn a_pair_of_sockets_carries_bytes_both_ways() {
    let w = World::new();
    w.call(53, [1, 1 | O_NONBLOCK, 0, MEMORY]).unwrap();
    let fds = w.peek(MEMORY, 8);
    let (a, b) = (u64::from(fds[0]), u64::from(fds[4]));
    let pa = a as i32;
    const RDHUP: u16 = 0x2000;
    w.write(a, b"to b").unwrap();
    w.write(b, b"to a").unwrap();
    assert_eq!(w.read(b, 9), Ok(b"to b".to_vec()));
    assert_eq!(w.call(45, [a, MEMORY, 9, 0, 0, 0]), Ok(4));
    assert_eq!(w.read(a, 9), Err(Errno::EAGAIN));
    assert_eq!(poll(&w, &[(pa, POLLIN | POLLOUT)], 0), (Ok(1), vec![POLLOUT]));
    w.call(48, [b, 1]).unwrap();
    assert_eq!(w.read(a, 9), Ok(Vec::new()));
    assert_eq!(poll(&w, &[(pa, POLLIN | POLLOUT | RDHUP)], 0).1, [POLLIN | POLLOUT | RDHUP]);
    w.write(a, b"still").unwrap();
    assert_eq!(w.read(b, 9), Ok(b"still".to_vec()));
    assert_eq!(w.write(b, b"x"), Err(Errno::EPIPE));
    w.call(3, [b]).unwrap();
    assert_eq!(w.call(44, [a, MEMORY, 1, 0x4000, 0]), Err(Errno::EPIPE));
    assert_eq!(poll(&w, &[(pa, POLLIN)], 0).1, [POLLIN | POLLHUP]);
    assert_eq!(w.call(44, [1, MEMORY, 1, 0, 0]), Err(Errno::ENOTSOCK));
    assert_eq!(w.call(53, [2, 1, 0, MEMORY]), Err(Errno::EOPNOTSUPP));
    assert_eq!(w.call(53, [99, 1, 0, MEMORY]), Err(Errno::EAFNOSUPPORT));
}
