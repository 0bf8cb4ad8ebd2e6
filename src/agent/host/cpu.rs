//! What the CPU says of virtualisation.

/// How many lines of `/proc/cpuinfo` hold vmx or svm: what `egrep -c '(vmx|svm)' /proc/cpuinfo` prints.
///
/// Like that command it counts lines, not flags, so that people find the number they know. Intel CPUs have a second
/// such line each (`vmx flags`), which counts too.
pub fn virtualisation_flags(cpuinfo: &str) -> usize {
    cpuinfo
        .lines()
        .filter(|line| line.contains("vmx") || line.contains("svm"))
        .count()
}

/// Whether a module's `nested` parameter, as the kernel prints it (`Y`, `1`, `N`, `0`), says yes.
pub fn nested_is_on(parameter: &str) -> Option<bool> {
    match parameter.trim() {
        "Y" | "y" | "1" => Some(true),
        "N" | "n" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_counted_as_egrep_does() {
        let intel = "processor\t: 0\nflags\t\t: fpu vme vmx ssse3\nvmx flags\t: vnmi\nprocessor\t: 1\nflags\t\t: fpu vmx\nvmx flags\t: vnmi\n";
        assert_eq!(virtualisation_flags(intel), 4);
        assert_eq!(virtualisation_flags("flags\t\t: fpu svm lm\n"), 1);
        assert_eq!(virtualisation_flags("flags\t\t: fpu hypervisor lm\n"), 0);
    }

    #[test]
    fn both_spellings_of_nested() {
        assert_eq!(nested_is_on("Y\n"), Some(true));
        assert_eq!(nested_is_on("1\n"), Some(true));
        assert_eq!(nested_is_on("N\n"), Some(false));
        assert_eq!(nested_is_on(""), None);
    }

    proptest! {
        #[test]
        fn never_more_than_lines(text: String) {
            prop_assert!(virtualisation_flags(&text) <= text.lines().count());
        }
    }
}
