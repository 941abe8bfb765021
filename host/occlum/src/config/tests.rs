use super::*;

fn config(text: &str) -> Config {
    parse("Occlum.json", text).unwrap_or_else(|e| panic!("{e}"))
}

fn fails(text: &str) -> String {
    match parse("Occlum.json", text) {
        Ok(_) => panic!("accepted"),
        Err(e) => e.to_string(),
    }
}

/// What the older tool wrote into a new instance.
const OLDER: &str = r#"{
    "resource_limits": {
        "kernel_space_heap_size": "32MB",
        "kernel_space_stack_size": "1MB",
        "user_space_size": "300MB",
        "max_num_of_threads": 32
    },
    "process": {
        "default_stack_size": "4MB",
        "default_heap_size": "32MB",
        "default_mmap_size": "100MB"
    },
    "entry_points": [ "/bin" ],
    "env": { "default": [ "OCCLUM=yes" ], "untrusted": [ "EXAMPLE" ] },
    "metadata": {
        "product_id": 0, "version_number": 0, "debuggable": true, "enable_kss": false,
        "family_id": { "high": "0x0", "low": "0x0" }, "ext_prod_id": { "high": "0x0", "low": "0x0" }
    },
    "feature": { "amx": 0, "pkru": 0, "io_uring": 0, "enable_edmm": false, "enable_posix_shm": false },
    "mount": [
        { "target": "/", "type": "unionfs", "options": { "layers": [
            { "target": "/", "type": "sefs", "source": "./image", "options": { "MAC": "" } },
            { "target": "/", "type": "sefs", "source": "./run/mount/__ROOT" } ] } },
        { "target": "/host", "type": "hostfs", "source": "." },
        { "target": "/proc", "type": "procfs" },
        { "target": "/dev", "type": "devfs" }
    ]
}"#;

#[test]
fn a_ring_is_a_number_of_older_versions_or_a_boolean() {
    let is_on = |value: &str| config(&format!("{{\"feature\": {{\"io_uring\": {value}}}}}")).io_uring;
    assert!(!config("{}").io_uring && !is_on("0") && !is_on("false"));
    assert!(is_on("1") && is_on("16") && is_on("true"));
    assert!(fails(r#"{"feature": {"io_uring": 17}}"#).contains("from 0 to 16"));
}

#[test]
fn the_older_format_is_taken_as_it_is_with_notes_on_what_is_obsolete() {
    let config = config(OLDER);
    assert_eq!(config.limits.user_space, 300 << 20);
    assert_eq!(config.limits.threads, 32);
    assert_eq!(config.process.stack, 4 << 20);
    assert_eq!(config.entry_points, ["/bin"]);
    assert_eq!(config.mounts.len(), 4);
    assert_eq!(
        config.mounts[1].kind,
        MountKind::Host { source: ".".into(), is_writable: true, sockets: false }
    );
    let obsolete: Vec<&str> = config.obsolete.iter().map(|o| o.field.as_str()).collect();
    assert_eq!(
        obsolete,
        ["resource_limits.kernel_space_stack_size", "process.default_heap_size", "process.default_mmap_size"]
    );
}

#[test]
fn the_template_and_the_empty_object_need_no_notes() {
    assert_eq!(config(TEMPLATE).obsolete, Vec::new());
    assert_eq!(config("{}"), Config::default());
}

#[test]
fn memory_that_grows_starts_at_user_space_size_and_ends_at_the_default() {
    let text = r#"{"resource_limits": {"user_space_size": "300MB"}, "feature": {"enable_edmm": true}}"#;
    assert_eq!(config(text).limits.user_space, 16 << 30);
    let text = r#"{"resource_limits": {"user_space_size": "300MB", "user_space_max_size": "2GB"}}"#;
    assert_eq!(config(text).limits.user_space, 2 << 30);
}

#[test]
fn a_stack_larger_than_all_memory_is_no_panic() {
    let tiny =
        r#"{"resource_limits": {"user_space_size": "167B"}, "process": {"default_stack_size": "4MB"}}"#;
    assert!(fails(tiny).starts_with("no program fits into less than 1MB"));
    let small =
        r#"{"resource_limits": {"user_space_size": "2MB"}, "process": {"default_stack_size": "4MB"}}"#;
    assert_eq!(config(small).process.stack, 2 << 20);
}

#[test]
fn an_unknown_field_is_shown_with_a_guess() {
    assert_eq!(
        fails("{\n    \"resource_limits\": {\n        \"user_space_sise\": \"300MB\"\n    }\n}"),
        "unknown field `resource_limits.user_space_sise`
  --> Occlum.json:3:9
   |
 3 |         \"user_space_sise\": \"300MB\"
   |         ^^^^^^^^^^^^^^^^^

hint: did you mean `user_space_size`?"
    );
}

#[test]
fn a_syntax_error_is_shown_with_its_place() {
    assert_eq!(
        fails("{\n    \"entry_points\": [\"/bin\",]\n}"),
        "syntax error: a comma with nothing after it
  --> Occlum.json:2:28
   |
 2 |     \"entry_points\": [\"/bin\",]
   |                            ^

hint: remove the comma"
    );
}

#[test]
fn a_wrong_unit_is_shown_with_the_grammar() {
    assert_eq!(
        fails("{\"resource_limits\": {\"user_space_size\": \"300XB\"}}"),
        "`resource_limits.user_space_size`: `XB` is not a unit
  --> Occlum.json:1:41
   |
 1 | {\"resource_limits\": {\"user_space_size\": \"300XB\"}}
   |                                         ^^^^^^^

hint: write a whole number and one of B, KB, MB, GB, TB, such as \"300MB\""
    );
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let text = r#"{
    "entry_points": ["bin", "/a/../b"],
    "env": {"default": ["NOVALUE"], "untrusted": ["A=b"]},
    "metadata": {"debuggable": "yes", "product_id": 70000},
    "mount": [{"target": "/x", "type": "hotsfs", "source": "."}, {"type": "ramfs"}],
    "color": 1
}"#;
    let e = fails(text);
    assert!(e.starts_with("9 mistakes in `Occlum.json`"), "{e}");
    let expected = [
        "`bin` is not an absolute path",
        "`/a/../b` contains `..`",
        "not an environment variable",
        "not the name of an environment variable",
        "`metadata.debuggable` is a boolean, not a string",
        "`metadata.product_id` is a whole number from 0 to 65535",
        "unknown file system `hotsfs`",
        "`mount[1]` has no `target`",
        "unknown field `color`",
    ];
    let places: Vec<_> = expected.iter().map(|m| e.find(m).unwrap_or_else(|| panic!("{m}: {e}"))).collect();
    assert!(places.is_sorted(), "{e}");
    assert!(e.contains("= hint: did you mean `hostfs`?"), "{e}");
}

#[test]
fn limits_that_no_enclave_can_have_are_refused() {
    assert!(
        fails(r#"{"resource_limits": {"user_space_max_size": "1TB"}}"#)
            .starts_with("an enclave has room for")
    );
    assert!(fails(r#"{"resource_limits": {"user_space_size": "300B"}}"#).contains("less than 1MB"));
    assert!(fails(r#"{"resource_limits": {"max_num_of_threads": 0}}"#).contains("at least one thread"));
}

#[test]
fn identifiers_are_two_halves_in_hexadecimal() {
    let text = r#"{"metadata": {"enable_kss": true, "family_id": {"high": "0x1", "low": "0xff"}}}"#;
    let id = config(text).metadata.family_id;
    assert_eq!((id[0], id[8]), (0xff, 1));
}

#[test]
fn a_release_enclave_logs_nothing_unless_told_otherwise() {
    assert!(config(r#"{"metadata": {"debuggable": false}}"#).metadata.disable_log);
    assert!(!config(r#"{"metadata": {"debuggable": false, "disable_log": false}}"#).metadata.disable_log);
}

#[test]
fn a_root_that_is_no_object_and_a_root_mount_without_layers_are_refused() {
    assert!(fails("[]").starts_with("`the file` is an object, not a list"));
    assert!(
        fails(r#"{"mount": [{"target": "/", "type": "sefs", "source": "x"}]}"#)
            .starts_with("`/` is a `unionfs`")
    );
    assert!(fails(r#"{"mount": [{"target": "/", "type": "unionfs"}]}"#).contains("has two layers"));
}

#[test]
fn damaged_files_are_mistakes_or_fine_and_never_a_panic() {
    let mut state = 1u64;
    let mut random = |below: usize| {
        // The constants are Knuth's.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        ",",
        ":",
        "\\",
        "é",
        "0",
        "-1",
        "null",
        "99999999999TB",
        "\u{0}",
        " ",
        "\n",
    ];
    for text in [OLDER, TEMPLATE] {
        for _ in 0..3000 {
            let mut chars: Vec<char> = text.chars().collect();
            for _ in 0..=random(3) {
                let at = random(chars.len());
                let until = (at + random(8)).min(chars.len());
                chars.splice(at..until, pieces[random(pieces.len())].chars());
            }
            let damaged: String = chars.into_iter().collect();
            if let Err(e) = parse("Occlum.json", &damaged) {
                assert!(e.to_string().contains(" --> Occlum.json:"), "{e}");
            }
        }
    }
}

#[test]
fn loopback_ports_are_shared_with_the_host_only_where_it_says_so() {
    assert_eq!(config("{}").network, Network::default());
    let network =
        config(r#"{"network": {"publish": ["tcp/8080", "udp"], "host_loopback": ["tcp/5432"]}}"#).network;
    assert_eq!((network.publish.tcp, network.publish.udp), (vec![8080..=8080], vec![0..=65535]));
    assert_eq!((network.host_loopback.tcp, network.host_loopback.udp), (vec![5432..=5432], vec![]));
    assert_eq!(
        fails("{\"network\": {\"publish\": [\"8080\"]}}"),
        "`network.publish`: `8080` names no ports
  --> Occlum.json:1:26
   |
 1 | {\"network\": {\"publish\": [\"8080\"]}}
   |                          ^^^^^^

hint: write `tcp/8080`, `udp/5000-5010`, `tcp` or `udp` for all ports of one, or `all`"
    );
    assert!(fails(r#"{"network": {"publsh": []}}"#).contains("did you mean `publish`?"));
}
