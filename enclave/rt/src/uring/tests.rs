use super::*;
use crate::ring_memory::{CQ_FLAGS, CQ_HEAD, CQ_TAIL, Memory, SQ_FLAGS, SQ_HEAD};
use edge_abi::ring::{PROVIDED_TAIL_AT, WireRing};

/// A host in the test.
struct Host(Memory);

impl Host {
    fn new() -> Self {
        Self(Memory::default())
    }

    fn wire(&self) -> WireRing {
        self.0.wire(9)
    }

    fn ring(&self) -> Ring {
        Ring::new(Layout::new(&self.wire()).unwrap())
    }

    fn half(&self, at: u32) -> u32 {
        self.0.rings.half(at)
    }

    fn set_half(&self, at: u32, value: u32) {
        self.0.rings.set_half(at, value);
    }

    /// The submission of a number.
    fn submission(&self, number: u32) -> WireSqe {
        self.0.submission(number)
    }

    /// Completes with any values.
    fn complete(&self, user_data: u64, res: i32, flags: u32) {
        self.0.complete(&WireCqe { user_data, res, flags });
    }

    fn provided_tail(&self) -> u16 {
        // Beside the number of a buffer.
        (self.0.provided.half(PROVIDED_TAIL_AT as u32 - 2) >> 16) as u16
    }
}

fn receive(ring: &mut Ring, token: u64) {
    let submission = WireSqe { opcode: op::RECV, fd: 5, ..WireSqe::default() };
    ring.post(Kind::Receive, token, submission, RESERVE).unwrap();
}

/// What there is to tell, and how many completions that took.
fn events(ring: &mut Ring) -> (Vec<(u64, RingEvent)>, usize) {
    let (mut judged, mut total) = (Vec::new(), 0);
    loop {
        let count = ring.take(BATCH, &mut judged);
        total += count;
        if count < BATCH {
            break;
        }
    }
    let told = judged.into_iter().filter_map(|judged| match judged {
        Judged::Event(token, event) => Some((token, event)),
        Judged::Nothing => None,
    });
    (told.collect(), total)
}

const fn buffer(number: u32) -> u32 {
    CQE_BUFFER | number << 16
}

fn failed(errno: Errno) -> RingEvent {
    RingEvent::Received(Err(HostError(errno)))
}

#[test]
fn what_was_received_is_copied_and_its_buffer_goes_back() {
    let host = Host::new();
    let mut ring = host.ring();
    assert_eq!(host.provided_tail(), RECEIVE_BUFFERS);
    for round in 0..300u32 {
        receive(&mut ring, 7);
        let number = round % 128;
        host.0.receive.set_half(number * RECEIVE_LEN, round);
        let user_data = host.submission(round).user_data;
        host.complete(user_data, 4, buffer(number));
        let data = round.to_le_bytes().to_vec();
        assert_eq!(events(&mut ring), (vec![(7, RingEvent::Received(Ok(data)))], 1));
        assert_eq!(host.half(CQ_HEAD), round + 1);
        assert_eq!(u32::from(host.provided_tail()), 128 + round + 1);
    }
    let entry = WireSqe { opcode: op::RECV, fd: 5, ..WireSqe::default() };
    assert_eq!(WireSqe { user_data: 0, ..host.submission(299) }, entry);
}

#[test]
fn the_tail_of_the_buffers_wraps() {
    let host = Host::new();
    let mut ring = host.ring();
    for _ in 0..70_000u32 {
        ring.provide(3);
    }
    assert_eq!(host.provided_tail(), (70_000u32 + 128) as u16);
}

#[test]
fn a_length_or_a_buffer_that_cannot_be_is_eio() {
    let host = Host::new();
    let mut ring = host.ring();
    let answers = [
        (RECEIVE_LEN as i32 + 1, buffer(0)),
        (i32::MAX, buffer(0)),
        (1, 0),
        (1, buffer(u32::from(RECEIVE_BUFFERS))),
        (1, buffer(0xffff)),
        (-4000, 0),
        (i32::MIN, buffer(1)),
    ];
    for (number, (res, flags)) in (0u32..).zip(answers) {
        receive(&mut ring, 7);
        let user_data = host.submission(number).user_data;
        host.complete(user_data, res, flags);
        assert_eq!(events(&mut ring).0, [(7, failed(Errno::EIO))], "{res} {flags:x}");
    }
    let number = answers.len() as u32;
    receive(&mut ring, 7);
    host.complete(host.submission(number).user_data, -104, 0);
    receive(&mut ring, 8);
    host.complete(host.submission(number + 1).user_data, 0, 0);
    let end = RingEvent::Received(Ok(Vec::new()));
    assert_eq!(events(&mut ring).0, [(7, failed(Errno::ECONNRESET)), (8, end)]);
}

#[test]
fn who_was_not_asked_is_not_heard() {
    let host = Host::new();
    let mut ring = host.ring();
    receive(&mut ring, 7);
    let user_data = host.submission(0).user_data;
    for wrong in [user_data ^ 1 << 32, user_data + 1, u64::MAX, 1 << 31] {
        host.complete(wrong, 4, buffer(0));
    }
    assert_eq!(events(&mut ring), (Vec::new(), 4));
    // The second answer to one question is nobody's, also when its place is used again.
    host.complete(user_data, 4, buffer(0));
    host.complete(user_data, 4, buffer(0));
    assert_eq!(events(&mut ring).0.len(), 1);
    receive(&mut ring, 8);
    host.complete(user_data, 4, buffer(0));
    assert_eq!(events(&mut ring), (Vec::new(), 1));
}

#[test]
fn a_tail_that_lies_costs_at_most_a_ring_of_completions() {
    let host = Host::new();
    let mut ring = host.ring();
    receive(&mut ring, 7);
    for tail in [u32::MAX, 1 << 30, 1 << 31] {
        host.set_half(CQ_TAIL, tail);
        let (told, total) = events(&mut ring);
        assert!(told.len() <= 1 && total == CQ_ENTRIES as usize);
        assert_eq!(ring.cq_head, tail);
    }
}

#[test]
fn sends_take_buffers_until_they_end() {
    let host = Host::new();
    let mut ring = host.ring();
    let data = vec![0x5a; SEND_LEN as usize + 10];
    for number in 0..u32::from(SEND_BUFFERS) {
        ring.send(HostFd(5), 7, &data, true).unwrap();
        let submission = host.submission(number);
        assert_eq!((submission.opcode, submission.fd, submission.len), (op::SEND, 5, SEND_LEN));
        let at = (submission.addr - host.wire().send) as usize;
        assert_eq!(host.0.send.load::<[u8; SEND_LEN as usize]>(at), [0x5a; SEND_LEN as usize]);
        // There is more anyhow.
        assert_eq!(submission.op_flags & MessageFlags::MORE.bits(), 0);
    }
    assert_eq!(ring.send(HostFd(5), 7, b"x", false), Err(EAGAIN));
    host.complete(host.submission(0).user_data, 10, 0);
    host.complete(host.submission(1).user_data, SEND_LEN as i32 + 1, 0);
    host.complete(host.submission(2).user_data, -11, 0);
    let sent = |result| (7, RingEvent::Sent(result));
    assert_eq!(events(&mut ring).0, [sent(Ok(10)), sent(Err(EIO)), sent(Err(EAGAIN))]);
    ring.send(HostFd(5), 7, b"x", true).unwrap();
    assert_ne!(host.submission(u32::from(SEND_BUFFERS)).op_flags & MessageFlags::MORE.bits(), 0);
}

#[test]
fn a_queue_that_is_full_refuses_and_keeps_room_for_closing() {
    let host = Host::new();
    let mut ring = host.ring();
    for _ in 0..SQ_ENTRIES - RESERVE {
        receive(&mut ring, 7);
    }
    let submission = WireSqe::default();
    assert_eq!(ring.post(Kind::Receive, 7, submission, RESERVE), Err(EAGAIN));
    assert_eq!(ring.post(Kind::End, 0, submission, 0), Ok(()));
    host.set_half(SQ_HEAD, 10);
    assert_eq!(ring.post(Kind::Receive, 7, submission, RESERVE), Ok(()));
    // A head that lies makes the ring full, or overwrites what the host has not read.
    host.set_half(SQ_HEAD, u32::MAX / 2);
    assert_eq!(ring.post(Kind::Receive, 7, submission, RESERVE), Err(EAGAIN));
}

#[test]
fn the_host_is_told_whether_anybody_sleeps_and_says_whether_it_does() {
    let host = Host::new();
    let mut ring = host.ring();
    assert_eq!(host.half(CQ_FLAGS), CQ_EVENTFD_DISABLED);
    ring.sleepers = 2;
    ring.layout.store(ring.layout.cq_flags, 0);
    ring.wakes();
    assert_eq!(host.half(CQ_FLAGS), 0);
    ring.wakes();
    assert_eq!(host.half(CQ_FLAGS), CQ_EVENTFD_DISABLED);
    assert!(!ring.needs_wake());
    host.set_half(SQ_FLAGS, SQ_NEED_WAKEUP);
    assert!(ring.needs_wake());
}

#[test]
fn a_ring_that_is_not_all_outside_is_refused() {
    let host = Host::new();
    let good = host.wire();
    assert!(Layout::new(&good).is_some());
    let bad = [
        WireRing { rings: 0x1000, ..good },
        WireRing { rings_len: good.rings_len - 8, ..good },
        WireRing { rings_len: u64::MAX, ..good },
        WireRing { submissions: 0, ..good },
        WireRing { provided: u64::MAX - 8, ..good },
        WireRing { receive: 0xe_0000_0000, ..good },
        WireRing { send: edge_abi::layout::ELRANGE_SIZE - 8, ..good },
        WireRing { completions: u32::MAX, ..good },
        WireRing { sq_tail: good.rings_len as u32, ..good },
        WireRing { cq_flags: 2, ..good },
    ];
    for (number, wire) in bad.iter().enumerate() {
        assert!(Layout::new(wire).is_none(), "{number}");
    }
}
