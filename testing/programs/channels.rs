//! 64 threads and channels between them, scoped threads, barriers, parking, and a panic in a thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock, RwLock};
use std::thread;
use std::time::Duration;

const THREADS: u64 = 64;

fn main() {
    // A ring: a number goes round through all threads.
    let (first, mut from) = channel::<u64>();
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        let (to, next) = channel();
        let mine = std::mem::replace(&mut from, next);
        threads.push(thread::spawn(move || {
            for value in mine {
                if to.send(value + 1).is_err() {
                    break;
                }
            }
        }));
    }
    for round in 0..50 {
        first.send(round * 1000).unwrap();
    }
    let sum: u64 = (0..50).map(|_| from.recv().unwrap()).sum();
    println!("round the ring: {sum}");
    drop(first);
    for thread in threads {
        thread.join().unwrap();
    }

    // Many senders, one receiver, with little room.
    let (sender, receiver) = sync_channel::<u64>(3);
    let total: u64 = thread::scope(|scope| {
        for thread in 0..THREADS {
            let sender = sender.clone();
            scope.spawn(move || (0..100).for_each(|n| sender.send(thread * n).unwrap()));
        }
        drop(sender);
        receiver.iter().sum()
    });
    println!("many to one: {total}");

    let barrier = Arc::new(Barrier::new(THREADS as usize));
    let leaders = Arc::new(AtomicU64::new(0));
    let words: Arc<RwLock<HashMap<u64, String>>> = Arc::default();
    let all: Vec<_> = (0..THREADS)
        .map(|n| {
            let (barrier, leaders, words) = (barrier.clone(), leaders.clone(), words.clone());
            thread::spawn(move || {
                for _ in 0..10 {
                    leaders.fetch_add(u64::from(barrier.wait().is_leader()), Ordering::Relaxed);
                }
                words.write().unwrap().insert(n, format!("{n}"));
                words.read().unwrap().len() > 0
            })
        })
        .collect();
    println!("all: {}", all.into_iter().all(|thread| thread.join().unwrap()));
    println!("leaders {}, words {}", leaders.load(Ordering::Relaxed), words.read().unwrap().len());

    let state = Arc::new((Mutex::new(0), Condvar::new()));
    let waiter = thread::spawn({
        let state = state.clone();
        move || *state.1.wait_while(state.0.lock().unwrap(), |value| *value < 3).unwrap()
    });
    for _ in 0..3 {
        *state.0.lock().unwrap() += 1;
        state.1.notify_all();
    }
    println!("condition {}", waiter.join().unwrap());

    static ONCE: OnceLock<u32> = OnceLock::new();
    let parked = thread::spawn(|| {
        thread::park_timeout(Duration::from_secs(20));
        ONCE.get().copied()
    });
    ONCE.set(7).unwrap();
    parked.thread().unpark();
    println!("parked {:?}", parked.join().unwrap());

    std::panic::set_hook(Box::new(|_| ()));
    println!("a panic ends its thread only: {}", thread::spawn(|| panic!("here")).join().is_err());
}
