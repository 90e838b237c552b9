//! What Prometheus expects to know of any process, read from `/proc` at each scrape.
//!
//! Where there is no `/proc` only the start time is shown: a missing series is honest, a zero is not.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{table::Metric, writer::Writer};

/// Clock ticks per second in `/proc/self/stat`; fixed at 100 in Linux's interface to user space.
const TICKS: f64 = 100.0;

pub(super) fn write(to: &mut Writer, started: SystemTime) {
    if let Ok(since) = started.duration_since(UNIX_EPOCH) {
        to.gauge(Metric::ProcessStart, &[], since.as_secs_f64());
    }
    if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu(&stat)) {
        to.counter_real(Metric::ProcessCpu, seconds);
    }
    if let Some(bytes) =
        fs::read_to_string("/proc/self/status").ok().and_then(|text| resident(&text))
    {
        to.gauge(Metric::ProcessMemory, &[], bytes as f64);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // The listing itself holds one open.
        to.gauge(Metric::ProcessFiles, &[], entries.count().saturating_sub(1) as f64);
    }
    if let Some(files) =
        fs::read_to_string("/proc/self/limits").ok().and_then(|text| files_max(&text))
    {
        to.gauge(Metric::ProcessFilesMax, &[], files as f64);
    }
}

/// `utime` and `stime`, fields 14 and 15 of proc(5); the name in field 2 may hold anything but ends with the last `)`.
fn cpu(stat: &str) -> Option<f64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn files_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_as_the_manual_says() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 100 1 1";
        assert_eq!(cpu(stat), Some(3.0));
        assert_eq!(resident("VmPeak:\t 9 kB\nVmRSS:\t  12 kB\n"), Some(12_288));
        assert_eq!(
            files_max("Max open files            1024                 4096   files\n"),
            Some(1024)
        );
        for bad in ["", "7 (x", "7 (x) S 1"] {
            assert_eq!(cpu(bad), None, "{bad}");
        }
    }
}
