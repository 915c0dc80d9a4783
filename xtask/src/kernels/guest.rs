//! One run of a kernel under QEMU.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Programs;
use super::image::Kernel;
use super::programs::QEMU;
use super::results::Run;
use crate::clock;

/// Longer no run takes that is not stuck; most take two minutes.
const LIMIT: Duration = Duration::from_mins(15);

/// Between two looks at whether the guest has ended.
const PAUSE: Duration = Duration::from_millis(200);

/// A machine that QEMU emulates, and the names that the guest's kernel has for its two serial ports.
struct Machine {
    arguments: &'static [&'static str],
    /// The port that messages go to.
    console: &'static str,
    /// The device of the port that the report goes to.
    report_device: &'static str,
    report_port: &'static str,
}

#[cfg(not(target_arch = "aarch64"))]
const MACHINE: Machine = Machine {
    arguments: &["-cpu", "max"],
    console: "ttyS0",
    report_device: "isa-serial",
    report_port: "ttyS1",
};

/// QEMU's `virt` has one serial port of its own, so the other is on PCI. Pointer authentication is slow to emulate as the CPU does it.
#[cfg(target_arch = "aarch64")]
const MACHINE: Machine = Machine {
    arguments: &["-machine", "virt", "-cpu", "max,pauth-impdef=on"],
    console: "ttyAMA0",
    report_device: "pci-serial",
    report_port: "ttyS0",
};

/// Boots `kernel`, lets it run the suite, and reads the report. The console and the report stay in `folder`, for people.
pub(super) fn run(kernel: &Kernel, folder: &Path, programs: &Programs) -> Result<Run> {
    let folder = folder.join("runs").join(&kernel.version);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let image = kernel
        .pack(&folder, programs)
        .context("cannot pack the guest's file system")?;
    let (console, results) = (folder.join("console"), folder.join("results"));
    eprintln!("{}: booting; its console is {}", kernel.version, console.display());
    let began = clock::start();
    let mut qemu = Command::new(QEMU);
    qemu.args(MACHINE.arguments);
    qemu
        // One thread, which is as fast beside another guest. With one for each CPU a guest was seen to die of an `int3` by which the
        // kernel was just replacing an instruction.
        .args(["-accel", "tcg,thread=single", "-smp", "2", "-m", "2000"])
        .args(["-nodefaults", "-display", "none", "-no-reboot", "-nic", "none"])
        .arg("-kernel")
        .arg(kernel.vmlinuz()?)
        .arg("-initrd")
        .arg(image)
        .arg("-append")
        // The kernel hands to process 1 what it does not know.
        .arg(format!(
            "console={} quiet panic=-1 report_port={}",
            MACHINE.console, MACHINE.report_port
        ))
        .args(["-serial", "stdio", "-chardev", "file,id=report,path=results", "-device"])
        .arg(format!("{},chardev=report", MACHINE.report_device))
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(File::create(&console)?)
        .stderr(Stdio::inherit());
    let mut qemu = qemu.spawn().with_context(|| format!("cannot start {QEMU}"))?;
    let ended = wait(&mut qemu)?;
    // Neither need be text where the guest crashed.
    let read = |file| fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let mut run = Run::read(&read(&results).unwrap_or_default(), began.elapsed());
    if !run.is_whole() {
        let how = if ended {
            "The guest ended early"
        } else {
            "The guest was stuck"
        };
        let console = read(&console)?;
        let last: Vec<&str> = console.lines().rev().take(40).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        run.failures.extend([how, ". Its console ends so:\n", &last.join("\n")]);
    }
    Ok(run)
}

/// Waits until the guest powers off. Returns whether it did within the limit.
fn wait(qemu: &mut Child) -> Result<bool> {
    let began = clock::start();
    while began.elapsed() < LIMIT {
        if qemu.try_wait().context("cannot wait for QEMU")?.is_some() {
            return Ok(true);
        }
        thread::sleep(PAUSE);
    }
    qemu.kill().and_then(|()| qemu.wait()).context("cannot end QEMU")?;
    Ok(false)
}
