//! How host threads are scheduled: what threads of programs ask for, within what the host gives to this process.

use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// Words of the largest set that the enclave sends.
const WORDS: usize = 16;
/// Bits of a `cpu_set_t`.
const BITS: usize = libc::CPU_SETSIZE as usize;

/// What a thread asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// SCHED_*.
    pub(crate) policy: i32,
    /// Nice value.
    pub(crate) nice: i32,
    /// Bits of the processors, counted among [`allowed`]; all zero: all of them.
    pub(crate) cpus: [u64; WORDS],
}

impl Request {
    /// What every host thread starts with.
    const DEFAULT: Self = Self { policy: libc::SCHED_OTHER, nice: 0, cpus: [0; WORDS] };

    /// The request of an OCALL: policy and nice value as words, and the bytes of the set.
    ///
    /// # Errors
    /// EINVAL a set that is too long or not of whole words.
    pub(crate) fn decode([policy, nice]: [u64; 2], set: &[u8]) -> Result<Self, i32> {
        let (words, rest) = set.as_chunks::<8>();
        if !rest.is_empty() || words.len() > WORDS {
            return Err(libc::EINVAL);
        }
        let mut cpus = [0; WORDS];
        for (to, from) in cpus.iter_mut().zip(words) {
            *to = u64::from_le_bytes(*from);
        }
        Ok(Self { policy: policy as i32, nice: nice as i32, cpus })
    }
}

/// The processors that this process had when it was first asked for them, in order.
fn allowed() -> &'static [usize] {
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    ALLOWED.get_or_init(|| {
        let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
        // SAFETY: the pointer is to memory of the size that is given.
        let got = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
        if got != 0 {
            return Vec::new();
        }
        // SAFETY: a set of bits, of which every pattern is one, zeroed before the call.
        let set = unsafe { set.assume_init() };
        // SAFETY: the index is below CPU_SETSIZE.
        (0..BITS).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
    })
}

/// The set of the host for bits that count among `allowed`; bits beyond them are left out.
fn host_set(cpus: &[u64; WORDS], allowed: &[usize]) -> libc::cpu_set_t {
    let wants_all = cpus.iter().all(|&word| word == 0);
    // SAFETY: a set of bits, of which zero is one.
    let mut set = unsafe { MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init() };
    for (index, &cpu) in allowed.iter().enumerate() {
        let is_wanted = cpus.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 != 0);
        if (wants_all || is_wanted) && cpu < BITS {
            // SAFETY: the index is below CPU_SETSIZE.
            unsafe { libc::CPU_SET(cpu, &mut set) };
        }
    }
    set
}

impl Request {
    /// The policy and the nice value that the host thread gets. A real-time thread that spins would starve those that serve the
    /// enclave, and with them itself, so it only becomes as nice as can be.
    const fn on_host(&self) -> (i32, i32) {
        match self.policy {
            libc::SCHED_FIFO | libc::SCHED_RR => (libc::SCHED_OTHER, -20),
            policy => (policy, self.nice),
        }
    }
}

/// Applies a request to a host thread: as much of it as the host allows.
///
/// # Errors
/// The errno of the first thing that it does not.
pub(crate) fn apply(host_tid: i32, request: &Request) -> Result<(), i32> {
    let done = |result: libc::c_int| {
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) }
    };
    let set = host_set(&request.cpus, allowed());
    // SAFETY: the pointer is to memory of the size that is given.
    let placed =
        done(unsafe { libc::sched_setaffinity(host_tid, size_of::<libc::cpu_set_t>(), &raw const set) });
    let (policy, nice) = request.on_host();
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a parameter.
    let ranked = done(unsafe { libc::sched_setscheduler(host_tid, policy, &raw const parameter) });
    // SAFETY: no pointers are involved.
    let niced = done(unsafe { libc::setpriority(libc::PRIO_PROCESS, host_tid.cast_unsigned(), nice) });
    placed.and(ranked).and(niced)
}

/// Makes a host thread one like any other again.
///
/// # Errors
/// EPERM the host does not let it become better again.
pub(crate) fn reset(host_tid: i32) -> Result<(), i32> {
    apply(host_tid, &Request::DEFAULT)
}

/// The processor that the calling thread runs on, counted among [`allowed`]; `u64::MAX` one that was not there then.
pub(crate) fn current_cpu() -> u64 {
    // SAFETY: no arguments.
    let cpu = usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(usize::MAX);
    allowed().iter().position(|&other| other == cpu).map_or(u64::MAX, |index| index as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::current_tid;

    #[test]
    fn bits_are_counted_among_the_processors_that_are_allowed() {
        let mut cpus = [0; WORDS];
        cpus[0] = 0b110;
        let set = host_set(&cpus, &[3, 5, 9]);
        // SAFETY: the indices are below CPU_SETSIZE.
        let members: Vec<usize> = (0..BITS).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect();
        assert_eq!(members, [5, 9]);
    }

    #[test]
    fn a_thread_gets_what_it_asks_for_and_is_reset() {
        std::thread::spawn(|| {
            let mut request = Request { nice: 3, ..Request::DEFAULT };
            request.cpus[0] = 1;
            apply(current_tid(), &request).unwrap();
            assert_eq!(current_cpu(), 0);
            // SAFETY: no pointers are involved.
            assert_eq!(unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }, 3);
            let reset = reset(current_tid());
            // SAFETY: no pointers are involved.
            let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
            assert_eq!(reset.is_ok(), nice == 0);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_real_time_thread_only_becomes_nice() {
        let request = Request { policy: libc::SCHED_FIFO, ..Request::DEFAULT };
        assert_eq!(request.on_host(), (libc::SCHED_OTHER, -20));
        let request = Request { policy: libc::SCHED_IDLE, nice: 4, ..Request::DEFAULT };
        assert_eq!(request.on_host(), (libc::SCHED_IDLE, 4));
    }

    #[test]
    fn a_set_that_is_too_long_is_refused() {
        assert_eq!(Request::decode([0; 2], &[0; WORDS * 8 + 8]), Err(libc::EINVAL));
        assert_eq!(Request::decode([0; 2], &[0; 9]), Err(libc::EINVAL));
        let request = Request::decode([3, -5i64 as u64], &[7]).unwrap_err();
        assert_eq!(request, libc::EINVAL);
        let request = Request::decode([3, -5i64 as u64], &7u64.to_le_bytes()).unwrap();
        assert_eq!((request.policy, request.nice, request.cpus[0]), (3, -5, 7));
    }
}
