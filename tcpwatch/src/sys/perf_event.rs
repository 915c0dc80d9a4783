//! `kernel.perf_event_paranoid` (`perf_event_open(2)`): whether the classic tracepoint can be attached without `CAP_SYS_ADMIN`.

use std::fs;
use std::path::Path;

/// The highest level of mainline. At higher levels Debian and Ubuntu allow `perf_event_open(2)` only with `CAP_SYS_ADMIN`.
const MAINLINE_MAX: i32 = 2;

/// The level below `root`; `None` if the kernel has no perf events.
#[must_use]
pub fn paranoid(root: &Path) -> Option<i32> {
    let text = fs::read_to_string(root.join("proc/sys/kernel/perf_event_paranoid")).ok()?;
    text.trim().parse().ok()
}

/// Why the kernel below `root` may refuse `perf_event_open(2)` to a process with `CAP_PERFMON`, and what to try; `None` if the
/// level does not explain it.
#[must_use]
pub fn refusal(root: &Path) -> Option<String> {
    let level = paranoid(root).filter(|&level| level > MAINLINE_MAX)?;
    Some(format!(
        "kernel.perf_event_paranoid is {level}, so perf_event_open(2) needs CAP_SYS_ADMIN; try sudo, or --hook \
        tp_btf, or sysctl -w kernel.perf_event_paranoid={MAINLINE_MAX}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_above_mainlines_explains_a_refusal() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!((paranoid(root.path()), refusal(root.path())), (None, None));
        fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
        for (text, level, explains) in [
            ("-1\n", Some(-1), false),
            ("2\n", Some(2), false),
            ("3\n", Some(3), true),
            ("4\n", Some(4), true),
            ("odd\n", None, false),
        ] {
            fs::write(root.path().join("proc/sys/kernel/perf_event_paranoid"), text).unwrap();
            assert_eq!(paranoid(root.path()), level, "{text:?}");
            let words = refusal(root.path());
            assert_eq!(words.is_some(), explains, "{text:?}");
            if let Some(words) = words {
                assert!(
                    words.starts_with(&format!("kernel.perf_event_paranoid is {}", text.trim())),
                    "{words}"
                );
            }
        }
    }
}
