//! Limits of the configuration: who hits one gets an errno, and the log says what to raise.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in a test, a surprise is a failure")]

use e2e::{folder, installed, occlum_command, occlum_in, run_to_end};
use std::fs;

#[test]
fn files_in_memory_take_a_part_of_the_kernel_heap_that_the_configuration_sets() {
    if !installed("/bin/busybox", "busybox-static") {
        return;
    }
    let folder = folder();
    let path = folder.path().join("instance");
    assert_eq!(occlum_in(folder.path(), &["new", "instance"]).status, 0);
    fs::create_dir_all(path.join("image/bin")).unwrap();
    fs::copy("/bin/busybox", path.join("image/bin/busybox")).unwrap();
    let run = |heap: &str| {
        let config = fs::read_to_string(path.join("Occlum.json")).unwrap();
        let (before, after) = config.split_once("\"kernel_space_heap_max_size\": \"").unwrap();
        let (_, after) = after.split_once('"').unwrap();
        let config = format!("{before}\"kernel_space_heap_max_size\": \"{heap}\"{after}");
        fs::write(path.join("Occlum.json"), config).unwrap();
        let built = occlum_in(&path, &["build"]);
        assert_eq!(built.status, 0, "{}", built.errors());
        // Half in a tmpfs, half in the layer over the image: the limit is for both together.
        let script =
            "dd if=/dev/zero of=/tmp/a bs=1M count=150 && dd if=/dev/zero of=/root/b bs=1M count=150";
        let script = format!("mkdir -p /root; {script}");
        let mut command = occlum_command();
        command.args(["run", "/bin/busybox", "sh", "-c", &script]);
        let run = run_to_end(command.env("OCCLUM_LOG_LEVEL", "warn").current_dir(&path));
        (run.status, run.errors())
    };
    let (status, errors) = run("1GB");
    assert_eq!(status, 1, "{errors}");
    assert!(errors.contains("No space left on device"), "{errors}");
    assert!(
        errors.contains("raise") && errors.contains("resource_limits.kernel_space_heap_max_size"),
        "{errors}"
    );
    let (status, errors) = run("2GB");
    assert_eq!(status, 0, "{errors}");
}
