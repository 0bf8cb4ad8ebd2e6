//! Whether the worker's KVM lets its guests run KVM machines of their own.

use std::path::Path;

use super::cpu::nested_is_on;
use crate::fault::Fault;
use crate::topology::model::Accelerator;
use crate::topology::name::Name;

/// KVM's module for each maker's CPUs.
const MODULES: [&str; 2] = ["kvm_intel", "kvm_amd"];

/// A loaded module and its parameter `nested`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// kvm_intel or kvm_amd.
    pub module: &'static str,
    /// As the kernel prints it, without the end of the line.
    pub text: String,
}

impl Parameter {
    /// That of the module that is loaded; `None` where none is, or none says.
    pub fn read() -> Option<Self> {
        Self::read_below(Path::new("/sys/module"))
    }

    fn read_below(modules: &Path) -> Option<Self> {
        MODULES.iter().find_map(|module| {
            let text = std::fs::read_to_string(modules.join(module).join("parameters/nested")).ok()?;
            Some(Self {
                module,
                text: text.trim().to_owned(),
            })
        })
    }

    /// `None` where its text says neither.
    pub fn is_on(&self) -> Option<bool> {
        nested_is_on(&self.text)
    }
}

/// What switches it on, on the worker itself.
pub fn cure(module: &str) -> String {
    format!(
        "On the worker, while no machine runs there: `modprobe -r {module} && modprobe {module} nested=1`; the line `options {module} \
         nested=1` in /etc/modprobe.d/kvm.conf keeps it."
    )
}

/// A node is to run KVM machines, and cannot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node}: nested was asked for, and the worker's KVM does not do that: {module}.nested is off")]
pub struct NestedOff {
    /// The first such node.
    pub node: Name,
    /// The module.
    pub module: &'static str,
}

impl Fault for NestedOff {
    fn help(&self) -> Option<String> {
        Some(format!(
            "{} Or write `accelerator: tcg`, under which AMD's virtualisation is emulated: slower, but it needs nothing.",
            cure(self.module)
        ))
    }
}

/// Checks that a node can have what it asks for; gives what is worth telling where that is not sure, or slow.
///
/// # Errors
/// Under KVM, when its module says that it does not.
pub fn check(
    node: &Name,
    accelerator: Accelerator,
    parameter: Option<&Parameter>,
) -> Result<Option<String>, NestedOff> {
    if accelerator == Accelerator::Tcg {
        return Ok(Some(
            "nested: AMD's virtualisation is emulated by QEMU (TCG), so that /dev/kvm works in the nodes; slow".to_owned(),
        ));
    }
    match parameter.map(|parameter| (parameter, parameter.is_on())) {
        Some((_, Some(true))) => Ok(None),
        Some((parameter, Some(false))) => Err(NestedOff {
            node: node.clone(),
            module: parameter.module,
        }),
        Some((Parameter { module, text }, None)) => Ok(Some(format!(
            "nested: {module}.nested says {text:?}, neither on nor off: whether nodes can run KVM machines is not known"
        ))),
        None => Ok(Some(
            "nested: neither kvm_intel.nested nor kvm_amd.nested can be read below /sys/module: whether nodes can run KVM \
             machines is not known"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(module: &'static str, text: &str) -> Parameter {
        Parameter {
            module,
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_loaded_module_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Parameter::read_below(dir.path()), None);
        let parameters = dir.path().join("kvm_amd/parameters");
        std::fs::create_dir_all(&parameters).unwrap();
        std::fs::write(parameters.join("nested"), "1\n").unwrap();
        let read = Parameter::read_below(dir.path()).unwrap();
        assert_eq!((read.module, read.is_on()), ("kvm_amd", Some(true)));
    }

    #[test]
    fn a_module_that_says_no_is_named_with_its_cure() {
        let node: Name = "worker-1".parse().unwrap();
        let ask = |accelerator, parameter: Option<&Parameter>| check(&node, accelerator, parameter);
        assert_eq!(ask(Accelerator::Kvm, Some(&said("kvm_intel", "Y"))), Ok(None));
        let refused = ask(Accelerator::Kvm, Some(&said("kvm_intel", "N"))).unwrap_err();
        assert!(
            refused.to_string().contains("node worker-1")
                && refused.to_string().contains("kvm_intel.nested is off")
        );
        assert!(refused.help().unwrap().contains("modprobe kvm_intel nested=1"));
        // Not known is told, and is no refusal: the node itself will show it.
        assert!(
            ask(Accelerator::Kvm, None)
                .unwrap()
                .unwrap()
                .contains("not known")
        );
        assert!(
            ask(Accelerator::Kvm, Some(&said("kvm_amd", "?")))
                .unwrap()
                .is_some()
        );
        assert!(
            ask(Accelerator::Tcg, Some(&said("kvm_amd", "0")))
                .unwrap()
                .unwrap()
                .contains("emulated")
        );
    }
}
