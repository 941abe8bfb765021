//! What shells do: many short programs one after the other, and a compiler that `make` drives.

use anyhow::{Context, Result};
use bench::{Table, World, run};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const BASH: &str = "/bin/bash";
/// How often each runs in each world.
const RUNS: usize = 5;

/// A script that counts as a whole.
struct Script {
    name: &'static str,
    text: String,
    /// Programs and files that it needs.
    needs: Vec<String>,
}

/// Measures them, in milliseconds.
pub(crate) fn measure() -> Result<Table> {
    let mut table = Table::default();
    for script in [many_programs(), compile()?] {
        if let Some(missing) = script.needs.iter().find(|needed| !Path::new(needed).exists()) {
            eprintln!("SKIPPED: {}: `{missing}` is missing", script.name);
            continue;
        }
        let needs: Vec<&Path> = script.needs.iter().map(Path::new).collect();
        let command = |world: World| -> Result<Command> {
            let mut command = world.command_with(Path::new(BASH), &needs, &[])?;
            command.args(["-c", &script.text]);
            Ok(command)
        };
        // The first time packs and signs, and warms the caches.
        for world in World::BOTH {
            run(&mut command(world)?)?;
        }
        for _ in 0..RUNS {
            for world in World::BOTH {
                let start = Instant::now();
                run(&mut command(world)?)?;
                table.add(script.name, world, start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(table)
}

fn many_programs() -> Script {
    Script {
        name: "bash: 500 times /bin/true",
        text: "for ((i = 0; i < 500; i++)); do /bin/true; done".to_owned(),
        needs: vec!["/bin/true".to_owned()],
    }
}

/// Eight small C files, compiled by two at a time and linked.
fn compile() -> Result<Script> {
    let library = "/usr/lib/x86_64-linux-gnu";
    let mut needs: Vec<String> =
        ["make", "gcc", "cc", "as", "ld", "sh", "mktemp", "rm"].map(|name| format!("/usr/bin/{name}")).into();
    needs.extend(["/usr/lib/gcc", "/usr/include", "/lib/x86_64-linux-gnu/libc.so.6"].map(str::to_owned));
    for object in ["crt1.o", "Scrt1.o", "crti.o", "crtn.o", "libc.so", "libc_nonshared.a"] {
        needs.push(format!("{library}/{object}"));
    }
    for part in ["cc1", "collect2"] {
        let output = run(Command::new("gcc").arg(format!("-print-prog-name={part}")))?;
        needs.push(
            String::from_utf8(output.stdout).context("gcc names its parts in UTF-8")?.trim().to_owned(),
        );
    }
    let text = r#"
        set -e
        d=$(mktemp -d); cd $d
        echo 'prog: 0.o 1.o 2.o 3.o 4.o 5.o 6.o main.o; $(CC) -o $@ $^' > Makefile
        echo 'int main(void) { return 0; }' > main.c
        for i in 0 1 2 3 4 5 6; do printf '#include <stdio.h>\n#include <stdlib.h>\nint f%s(void) { return puts("x"); }\n' $i > $i.c; done
        make -s -j2
        ./prog
        cd /; rm -r $d"#;
    Ok(Script { name: "make -j2: gcc, 8 files", text: text.to_owned(), needs })
}
