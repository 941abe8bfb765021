//! System calls, files, memory, pipes: the same program natively and in an enclave. criterion decides how often.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

use bench::{Program, Table, World};
use criterion::Criterion;
use std::time::Duration;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let program = Program::compile().unwrap();
    let mut sessions = World::BOTH.map(|world| (world, program.start(world).unwrap()));
    let mut table = Table::default();
    for operation in program.operations().unwrap() {
        let mut group = criterion.benchmark_group(&operation);
        for (world, session) in &mut sessions {
            group.bench_function(format!("{world:?}").to_lowercase(), |bencher| {
                bencher.iter_custom(|count| {
                    let took = session.measure(&operation, count).unwrap();
                    // Short warm-up rounds say more about the clock.
                    if took > Duration::from_micros(100) {
                        table.add(&operation, *world, took.as_secs_f64() * 1e9 / count as f64);
                    }
                    took
                });
            });
        }
    }
    criterion.final_summary();
    table.print("ns");
}
