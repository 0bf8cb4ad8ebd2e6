//! What a node's virtual hardware tells of it, whatever it prints.

use std::sync::Arc;

use tokio::time::{Instant, sleep, sleep_until};

use super::Gathered;
use super::pace::Pace;
use crate::boot::evidence::{CpuMode, Evidence, Life, PauseReason, VirtioDevice, VirtioKind};
use crate::hypervisor::{
    Connection, HypervisorError, ObjectName, Questions, Registers, TextMemory, TextScreen, VirtioState,
};

/// Before this, there is nothing but firmware to see; and while nothing is to be looked at, how often that is reconsidered.
const IDLE: std::time::Duration = std::time::Duration::from_secs(1);

/// One look at everything.
#[derive(Debug, Default)]
struct Look {
    run_state: Option<String>,
    virtio: Option<Vec<VirtioState>>,
    registers: Option<Registers>,
    memory: Option<TextMemory>,
    screen: Option<TextScreen>,
}

/// Looks at a domain at the given pace, and tells what has changed.
pub(super) async fn watch(connection: Connection, domain: ObjectName, pace: Arc<Pace>, gathered: Gathered) {
    let mut before = Look::default();
    let mut questions = None;
    sleep(IDLE).await;
    loop {
        let name = domain.to_string();
        if questions.is_none() {
            let ask = connection.run(move |connection| connection.questions(&name));
            questions = ask.await.ok();
        }
        let began = Instant::now();
        let (name, can) = (domain.to_string(), questions.unwrap_or_default());
        let known = (before.memory.clone(), before.screen.clone());
        let look = connection.run(move |connection| look(connection, &name, can, known));
        // That a machine has stopped is told by libvirt's events; it may be started again.
        if let Ok(now) = look.await {
            for evidence in news(&before, &now) {
                if gathered.send(evidence).await.is_err() {
                    return;
                }
            }
            before = now;
        }
        let cost = began.elapsed();
        loop {
            match pace.next_look(Instant::now(), began, cost) {
                Some(at) if at <= Instant::now() => break,
                // A console that falls silent brings the next look nearer.
                Some(at) => sleep_until(at.min(Instant::now() + IDLE)).await,
                None => sleep(IDLE).await,
            }
        }
    }
}

/// What the display's memory held before, and what was shown of it.
type Known = (Option<TextMemory>, Option<TextScreen>);

fn look(
    connection: &Connection,
    domain: &str,
    can: Questions,
    (memory_before, screen_before): Known,
) -> Result<Look, HypervisorError> {
    let memory = match can.human {
        true => connection.text_memory(domain).ok(),
        false => None,
    };
    let screen = if memory == memory_before {
        screen_before
    } else {
        memory
            .as_ref()
            .and_then(|memory| connection.text_screen(domain, memory))
    };
    Ok(Look {
        run_state: Some(connection.run_state(domain)?),
        virtio: match can.virtio {
            // A device that is unplugged between the questions spoils this look, not the next.
            true => connection.virtio(domain).ok(),
            false => None,
        },
        registers: match can.human {
            true => connection.registers(domain).ok(),
            false => None,
        },
        memory,
        screen,
    })
}

/// Registers are told each time, since that they stay the same says something too; the rest where it has changed.
fn news(before: &Look, now: &Look) -> Vec<Evidence> {
    let mut news = Vec::new();
    if now.run_state != before.run_state {
        let reason = now.run_state.as_deref().and_then(pause_reason);
        news.extend(reason.map(|reason| Evidence::Life(Life::Paused { reason })));
    }
    // What a system says itself is read before what its devices hint at.
    if now.screen != before.screen {
        // A display that has left text mode shows none of its lines any more.
        let lines = now
            .screen
            .as_ref()
            .map_or_else(Vec::new, |screen| screen.0.clone());
        news.push(Evidence::Screen { lines });
    }
    if now.virtio != before.virtio {
        let devices = now.virtio.as_deref().map(devices);
        news.extend(devices.map(|devices| Evidence::Virtio { devices }));
    }
    if let Some(registers) = &now.registers {
        news.push(Evidence::Registers {
            mode: mode(registers),
            halted: registers.halted,
        });
    }
    news
}

/// The states in which nobody asked for the pause, which libvirt's events do not all tell.
fn pause_reason(state: &str) -> Option<PauseReason> {
    Some(match state {
        "internal-error" => PauseReason::InternalError,
        "io-error" => PauseReason::IoError,
        "guest-panicked" => PauseReason::Panicked,
        "watchdog" => PauseReason::Watchdog,
        _ => return None,
    })
}

fn devices(states: &[VirtioState]) -> Vec<VirtioDevice> {
    let mut devices: Vec<VirtioDevice> = Vec::with_capacity(states.len());
    for state in states {
        let device = match state.name.as_str() {
            "virtio-blk" | "virtio-scsi" => VirtioKind::Block,
            "virtio-net" => VirtioKind::Net,
            "virtio-serial" | "virtio-console" => VirtioKind::Console,
            "virtio-rng" => VirtioKind::Rng,
            "virtio-balloon" => VirtioKind::Balloon,
            _ => VirtioKind::Other,
        };
        let index = devices.iter().filter(|other| other.device == device).count() as u32;
        devices.push(VirtioDevice {
            device,
            index,
            acknowledge: state.acknowledge,
            driver: state.driver,
            features_ok: state.features_ok,
            driver_ok: state.driver_ok,
            failed: state.failed,
            guest_features: state.guest_features,
        });
    }
    devices
}

/// What runs, as the mode, privilege and place of the code tell.
///
/// Operating systems of 64 bits live in the upper half of the address space, those of 32 bits in its last quarter or half;
/// firmware and bootloaders use memory where it is, below 4 GiB. A kernel that unpacks itself is there too.
fn mode(registers: &Registers) -> CpuMode {
    let at = registers.instruction;
    match registers {
        Registers { protected: false, .. }
        | Registers {
            virtual_8086: true, ..
        } => CpuMode::Real,
        Registers { privilege: 3, .. } => CpuMode::User,
        Registers { long: true, .. } if at >> 47 == 0x1_ffff || at >> 56 == 0xff => CpuMode::Kernel,
        Registers { long: true, .. } if at < 1 << 32 => CpuMode::Firmware64,
        Registers { long: true, .. } => CpuMode::Unknown,
        Registers { paging: true, .. } if at >= 0x8000_0000 => CpuMode::Kernel,
        _ => CpuMode::Protected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: Registers = Registers {
        instruction: 0x9102,
        protected: false,
        paging: false,
        long: false,
        virtual_8086: false,
        privilege: 0,
        halted: false,
    };
    const LONG: Registers = Registers {
        protected: true,
        paging: true,
        long: true,
        ..REAL
    };

    #[test]
    fn registers_tell_what_runs() {
        let protected = Registers {
            protected: true,
            ..REAL
        };
        let at = |instruction, registers| Registers {
            instruction,
            ..registers
        };
        let paging = Registers {
            paging: true,
            ..protected
        };
        let user = Registers { privilege: 3, ..LONG };
        let v86 = Registers {
            virtual_8086: true,
            privilege: 3,
            ..protected
        };
        for (registers, wanted) in [
            (REAL, CpuMode::Real),
            (v86, CpuMode::Real),
            (protected, CpuMode::Protected),
            (at(0xf000_1000, protected), CpuMode::Protected),
            (at(0xc010_0000, paging), CpuMode::Kernel),
            (at(0x474_3ee4, LONG), CpuMode::Firmware64),
            (at(0xffff_ffff_adeb_c56f, LONG), CpuMode::Kernel),
            (at(0xffff_8880_0000_0000, LONG), CpuMode::Kernel),
            (at(0xff11_0000_0000_0000, LONG), CpuMode::Kernel),
            (at(1 << 40, LONG), CpuMode::Unknown),
            (at(0x7fff_1234_5678, user), CpuMode::User),
        ] {
            assert_eq!(mode(&registers), wanted, "{registers:?}");
        }
    }

    #[test]
    fn what_stays_the_same_is_no_news() {
        let state = |name: &str| VirtioState {
            name: name.to_owned(),
            acknowledge: true,
            driver: false,
            features_ok: false,
            driver_ok: false,
            failed: false,
            guest_features: 0,
        };
        let look = || Look {
            run_state: Some("running".to_owned()),
            virtio: Some(vec![
                state("virtio-blk"),
                state("virtio-net"),
                state("virtio-blk"),
            ]),
            registers: Some(REAL),
            memory: None,
            screen: Some(TextScreen(vec!["a".to_owned()])),
        };
        let first = news(&Look::default(), &look());
        assert_eq!(first.len(), 3, "{first:?}");
        // The screen speaks for itself: it comes before what only hints at something.
        assert!(matches!(first[0], Evidence::Screen { .. }), "{first:?}");
        let Evidence::Virtio { devices } = &first[1] else {
            panic!("{first:?}");
        };
        let kinds: Vec<_> = devices
            .iter()
            .map(|device| (device.device, device.index))
            .collect();
        assert_eq!(
            kinds,
            [
                (VirtioKind::Block, 0),
                (VirtioKind::Net, 0),
                (VirtioKind::Block, 1)
            ]
        );
        let registers = Evidence::Registers {
            mode: CpuMode::Real,
            halted: false,
        };
        assert_eq!(news(&look(), &look()), std::slice::from_ref(&registers));
        let mut later = look();
        later.run_state = Some("internal-error".to_owned());
        later.screen = None;
        let paused = Evidence::Life(Life::Paused {
            reason: PauseReason::InternalError,
        });
        let emptied = Evidence::Screen { lines: Vec::new() };
        assert_eq!(news(&look(), &later), [paused, emptied, registers]);
    }
}
