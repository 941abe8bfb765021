//! A Rust program: collections, formatting, files, panics that unwind, the environment, time.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};

fn main() {
    let mut counts = BTreeMap::new();
    for word in "the quick brown fox jumps over the lazy dog the end".split(' ') {
        *counts.entry(word).or_insert(0) += 1;
    }
    println!("{counts:?}");
    let squares: HashMap<u64, u64> = (0..100_000).map(|n| (n, n * n)).collect();
    println!("{}", squares.values().sum::<u64>());
    println!("{:>10.3e} {:#x} {:?}", 12345.678_f64, 255, "tab\there");

    // The default hook prints the thread's id.
    std::panic::set_hook(Box::new(|_| eprintln!("a panic")));
    let caught = std::panic::catch_unwind(|| {
        let empty: Vec<u8> = std::env::args().skip(1000).map(|_| 1).collect();
        empty[3]
    });
    println!("a panic was caught: {}", caught.is_err());

    let folder = std::env::args().nth(1).expect("a folder");
    let path = std::path::Path::new(&folder).join("rust.txt");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(&path, "one\ntwo\n").unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    writeln!(file, "three").unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    println!("{:?} {}", text.lines().collect::<Vec<_>>(), std::fs::metadata(&path).unwrap().len());
    let error = std::fs::read(path.join("x")).unwrap_err();
    println!("{:?} {:?}", error.kind(), error.raw_os_error());
    std::fs::remove_file(&path).unwrap();
    println!("{:?}", std::env::var("GREETING"));

    let start = std::time::Instant::now();
    std::thread::sleep(std::time::Duration::from_millis(20));
    println!("slept: {}", start.elapsed().as_millis() >= 20);
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).unwrap();
    println!("{} bytes of input", input.len());
    std::process::exit(9);
}
