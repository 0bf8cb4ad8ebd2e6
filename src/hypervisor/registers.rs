//! The registers of an x86 CPU, as QEMU's monitor shows them (`info registers`).

/// As much of the registers as tells what kind of code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// RIP, EIP or IP: an offset into the code segment in real mode.
    pub instruction: u64,
    /// CR0.PE: no real mode.
    pub protected: bool,
    /// CR0.PG: addresses are translated.
    pub paging: bool,
    /// EFER.LMA: 64-bit mode, or 32-bit code below a 64-bit kernel.
    pub long: bool,
    /// EFLAGS.VM: 16-bit code in protected mode.
    pub virtual_8086: bool,
    /// From 0, all may be done, to 3, a program.
    pub privilege: u8,
    /// The CPU waits for an interrupt.
    pub halted: bool,
}

/// Bits of CR0, EFER and EFLAGS (Intel SDM vol. 3, 2.3 and 2.5; AMD APM vol. 2, 3.1.7).
const CR0_PE: u64 = 1;
const CR0_PG: u64 = 1 << 31;
const EFER_LMA: u64 = 1 << 10;
const EFLAGS_VM: u64 = 1 << 17;

impl Registers {
    /// Reads what the monitor printed; `None` where that is no x86 CPU's. Of several CPUs, the first.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |name: &str| u64::from_str_radix(value(text, name)?, 16).ok();
        let any = |names: [&str; 2]| names.into_iter().find_map(hex);
        let cr0 = hex("CR0")?;
        let flags = any(["RFL", "EFL"])?;
        Some(Self {
            instruction: any(["RIP", "EIP"])?,
            protected: cr0 & CR0_PE != 0,
            paging: cr0 & CR0_PG != 0,
            // A CPU without 64-bit mode has no EFER.
            long: hex("EFER").unwrap_or(0) & EFER_LMA != 0,
            virtual_8086: flags & EFLAGS_VM != 0,
            privilege: u8::try_from(hex("CPL")?).ok().filter(|level| *level <= 3)?,
            halted: hex("HLT")? != 0,
        })
    }
}

/// The text after `NAME=`, where `NAME` is a word of its own.
fn value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.split_ascii_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEABIOS: &str = "\r\nCPU#0\r\nEAX=00000000 EBX=0000f0b8 ECX=00000000 EDX=00000cfd\r\n\
        EIP=00009102 EFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\nES =0000 00000000 0000ffff 00009300\r\n\
        CR0=00000010 CR2=00000000 CR3=00000000 CR4=00000000\r\nEFER=0000000000000000\r\n";
    const KERNEL: &str = "CPU#0\nRAX=0000000000000000 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000\n\
        RIP=ffffffffadebc56f RFL=00000206 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\n\
        CR0=80050033 CR2=00007f572e29ebc0 CR3=0000000005bb4000 CR4=00751ef0\nEFER=0000000000000d01\n";

    #[test]
    fn a_bios_and_a_kernel_are_told_apart() {
        let bios = Registers::parse(SEABIOS).unwrap();
        assert!(!bios.protected && !bios.paging && !bios.long && !bios.halted);
        assert_eq!((bios.instruction, bios.privilege), (0x9102, 0));
        let kernel = Registers::parse(KERNEL).unwrap();
        assert!(kernel.protected && kernel.paging && kernel.long && kernel.halted);
        assert_eq!(kernel.instruction, 0xffff_ffff_adeb_c56f);
    }

    #[test]
    fn other_cpus_are_not_guessed_at() {
        for text in [
            "",
            "CPU#0\nPC=0000000040000000 X00=0 PSTATE=400003c5",
            "RIP=zz CR0=1 RFL=2 CPL=0 HLT=0",
            "RIP=1 CR0=1 RFL=2 CPL=4 HLT=0",
            "RIP=1 CR0=11111111111111111 RFL=2 CPL=0 HLT=0",
            "unknown command: 'info registers'",
        ] {
            assert_eq!(Registers::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,200}") {
            let _ = Registers::parse(&text);
        }

        #[test]
        fn what_was_written_is_read(ip: u64, cr0: u32, efer: u64, flags: u32, cpl in 0u8..4, halted: bool, before in "[A-Z0-9 \n]{0,40}") {
            let text = format!(
                "{before}\nRIP={ip:016x} RFL={flags:08x} [---] CPL={cpl} II=0 HLT={}\nCR0={cr0:08x} CR2=0\nEFER={efer:016x}",
                u8::from(halted)
            );
            let read = Registers::parse(&text).unwrap();
            prop_assert_eq!((read.instruction, read.privilege, read.halted), (ip, cpl, halted));
            prop_assert_eq!((read.protected, read.paging), (cr0 & 1 != 0, cr0 >> 31 != 0));
            prop_assert_eq!((read.long, read.virtual_8086), ((efer >> 10) & 1 != 0, (flags >> 17) & 1 != 0));
        }
    }
}
