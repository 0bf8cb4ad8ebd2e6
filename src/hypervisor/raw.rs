//! The parts of libvirt that the `virt` crate does not wrap: the event loop, domain events, the closing of a
//! connection, DHCP leases, domains' statistics, and networks checked against the schema.
//!
//! All of the project's unsafe code is in this file and in `tap.rs`; nothing unsafe leaves them.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use virt::connect::Connect;
use virt::error::Error;
use virt::network::Network;
use virt::sys;

/// What a domain did, as libvirt numbers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RawKind {
    /// `virDomainEventType` and its detail.
    Lifecycle { event: u32, detail: u32 },
    /// The guest, or somebody for it, reset the machine.
    Reboot,
    /// A disk failed; the reason is QEMU's (`enospc`, or empty).
    IoError { disk: String, reason: String },
    /// `virConnectDomainEventAgentLifecycleState`.
    GuestAgent { state: u32 },
}

/// One event of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawEvent {
    pub name: String,
    pub uuid: [u8; 16],
    pub kind: RawKind,
}

/// Takes events; called on the thread of the event loop, where it must not block.
pub(super) type EventSink = Box<dyn Fn(RawEvent) + Send>;

/// Takes the reason (`virConnectCloseReason`) for which a connection was closed; same thread, same rule.
pub(super) type CloseSink = Box<dyn Fn(u32) + Send>;

/// Starts libvirt's event loop in a thread of its own, once a process. Connections opened before it get no events.
pub(super) fn start_event_loop() -> Result<(), Error> {
    static STARTED: OnceLock<Result<(), Error>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            virt::error::clear_error_callback();
            virt::event::event_register_default_impl()?;
            let run = || {
                loop {
                    // An iteration fails only when poll() does; a pause keeps that from burning a core.
                    if virt::event::event_run_default_impl().is_err() {
                        std::thread::sleep(std::time::Duration::from_millis(100));
                    }
                }
            };
            // The process cannot make a thread: libvirt's own calls would fail for the same reason, and say so.
            let _ = std::thread::Builder::new()
                .name("libvirt-events".to_owned())
                .spawn(run);
            Ok(())
        })
        .clone()
}

/// What is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Lifecycle,
    Reboot,
    IoError,
    GuestAgent,
}

/// Sends all domains' events of one subject to `sink` until [`unwatch_domains`]. Returns the subscription's number.
pub(super) fn watch_domains(connect: &Connect, subject: Subject, sink: EventSink) -> Result<c_int, Error> {
    // A box in a box: a trait object's pointer is two words wide, libvirt's opaque one.
    let opaque = Box::into_raw(Box::new(sink)).cast::<c_void>();
    let (id, callback) = match subject {
        Subject::Lifecycle => (
            sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            generic(on_lifecycle as Lifecycle),
        ),
        Subject::Reboot => (sys::VIR_DOMAIN_EVENT_ID_REBOOT, on_reboot as Generic),
        Subject::IoError => (
            sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON,
            generic(on_io_error as IoError),
        ),
        Subject::GuestAgent => (
            sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
            generic(on_guest_agent as GuestAgent),
        ),
    };
    // SAFETY: the connection is alive for the length of the call; `opaque` is the box that the callbacks expect, and
    // belongs to libvirt from here on, which gives it back through `free_event_sink`.
    let watch = unsafe {
        sys::virConnectDomainEventRegisterAny(
            connect.as_ptr(),
            ptr::null_mut(),
            id as c_int,
            Some(callback),
            opaque,
            Some(free_event_sink),
        )
    };
    if watch < 0 {
        let error = Error::last_error();
        // SAFETY: libvirt did not take the box, and nobody else knows of it.
        unsafe { free_event_sink(opaque) };
        return Err(error);
    }
    Ok(watch)
}

/// Ends a subscription. On a dead connection libvirt forgets its own half and reports the other: no loss.
pub(super) fn unwatch_domains(connect: &Connect, watch: c_int) {
    // SAFETY: the connection is alive, and libvirt checks the number.
    unsafe { sys::virConnectDomainEventDeregisterAny(connect.as_ptr(), watch) };
}

/// Tells `sink` when the connection is closed by anyone but us.
pub(super) fn watch_close(connect: &Connect, sink: CloseSink) -> Result<(), Error> {
    let opaque = Box::into_raw(Box::new(sink)).cast::<c_void>();
    // SAFETY: as in `watch_domains`.
    let done = unsafe {
        sys::virConnectRegisterCloseCallback(connect.as_ptr(), Some(on_close), opaque, Some(free_close_sink))
    };
    if done < 0 {
        let error = Error::last_error();
        // SAFETY: libvirt did not take the box, and nobody else knows of it.
        unsafe { free_close_sink(opaque) };
        return Err(error);
    }
    Ok(())
}

/// Ends what [`watch_close`] began; without it the connection would never be freed, since its callback holds it.
pub(super) fn unwatch_close(connect: &Connect) {
    // SAFETY: the connection is alive, and libvirt checks that the callback is the one registered.
    unsafe { sys::virConnectUnregisterCloseCallback(connect.as_ptr(), Some(on_close)) };
}

/// The flag by which libvirt checks XML against its schema, in debug builds, which the tests are: what is valid does not depend on
/// the user, and libvirt reads its whole schema each time anew, which delays the start of four nodes by a fifth.
pub(super) fn checked(flag: u32) -> u32 {
    if cfg!(debug_assertions) { flag } else { 0 }
}

/// Creates a transient network.
pub(super) fn create_network(connect: &Connect, xml: &str) -> Result<Network, Error> {
    let xml = CString::new(xml)?;
    // SAFETY: connection and string are alive for the length of the call.
    let network = unsafe {
        sys::virNetworkCreateXMLFlags(
            connect.as_ptr(),
            xml.as_ptr(),
            checked(sys::VIR_NETWORK_CREATE_VALIDATE),
        )
    };
    if network.is_null() {
        return Err(Error::last_error());
    }
    // SAFETY: a valid pointer whose one reference is ours.
    Ok(unsafe { Network::from_ptr(network) })
}

/// A DHCP lease as libvirt tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawLease {
    pub mac: String,
    pub address: String,
    pub hostname: Option<String>,
    /// Seconds since 1970; 0 for a lease without end.
    pub expires: i64,
}

/// The leases given out on a network.
pub(super) fn leases(network: &Network) -> Result<Vec<RawLease>, Error> {
    let mut array: *mut sys::virNetworkDHCPLeasePtr = ptr::null_mut();
    // SAFETY: the network is alive; `array` is where libvirt puts a pointer that it allocated.
    let count = unsafe { sys::virNetworkGetDHCPLeases(network.as_ptr(), ptr::null(), &mut array, 0) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_error());
    };
    let mut leases = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: the array holds `count` valid pointers, each of which is read, then freed, once.
        unsafe {
            let lease = *array.add(index);
            leases.push(RawLease {
                mac: text((*lease).mac).unwrap_or_default(),
                address: text((*lease).ipaddr).unwrap_or_default(),
                hostname: text((*lease).hostname),
                expires: (*lease).expirytime,
            });
            sys::virNetworkDHCPLeaseFree(lease);
        }
    }
    // SAFETY: libvirt allocated the array with malloc and left it to us; null is allowed.
    unsafe { free(array.cast()) };
    Ok(leases)
}

/// The statistics of one domain: those that are whole numbers, by libvirt's name for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawStats {
    pub name: String,
    pub numbers: BTreeMap<String, u64>,
}

/// CPU, disk and NIC statistics of all domains that are up. What a domain that is busy with another call cannot tell at
/// once is left out of its numbers.
pub(super) fn all_stats(connect: &Connect) -> Result<Vec<RawStats>, Error> {
    let subjects =
        sys::VIR_DOMAIN_STATS_CPU_TOTAL | sys::VIR_DOMAIN_STATS_INTERFACE | sys::VIR_DOMAIN_STATS_BLOCK;
    let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
    let mut array: *mut sys::virDomainStatsRecordPtr = ptr::null_mut();
    // SAFETY: the connection is alive; `array` is where libvirt puts a pointer that it allocated.
    let count = unsafe { sys::virConnectGetAllDomainStats(connect.as_ptr(), subjects, &mut array, flags) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_error());
    };
    let mut all = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: the array holds `count` valid pointers to records, each with a valid domain and `nparams` parameters.
        let (name, params) = unsafe {
            let record = *array.add(index);
            let length = usize::try_from((*record).nparams).unwrap_or(0);
            let params = match (*record).params {
                null if null.is_null() => &[],
                params => std::slice::from_raw_parts(params, length),
            };
            (text(sys::virDomainGetName((*record).dom)), params)
        };
        all.push(RawStats {
            name: name.unwrap_or_default(),
            numbers: params.iter().filter_map(number).collect(),
        });
    }
    // SAFETY: the list is libvirt's own, not used after this; null is allowed.
    unsafe { sys::virDomainStatsRecordListFree(array) };
    Ok(all)
}

/// A parameter's name and value, where that is a whole number from 0 on.
fn number(param: &sys::virTypedParameter) -> Option<(String, u64)> {
    let name = param.field.map(|c| c as u8);
    let name = CStr::from_bytes_until_nul(&name).ok()?;
    // SAFETY: the type says which field of the union is the one that was written.
    let value = unsafe {
        match param.type_ as u32 {
            sys::VIR_TYPED_PARAM_INT => u64::try_from(param.value.i).ok()?,
            sys::VIR_TYPED_PARAM_UINT => u64::from(param.value.ui),
            sys::VIR_TYPED_PARAM_LLONG => u64::try_from(param.value.l).ok()?,
            sys::VIR_TYPED_PARAM_ULLONG => param.value.ul,
            _ => return None,
        }
    };
    Some((name.to_string_lossy().into_owned(), value))
}

unsafe extern "C" {
    /// C's own; the `libc` crate is pinned by `virt` and no dependency of ours.
    fn free(pointer: *mut c_void);
}

type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
type Lifecycle =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
type IoError = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    *const c_char,
    c_int,
    *const c_char,
    *mut c_void,
);
type GuestAgent = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void);

/// A callback's pointer as libvirt's C API takes it (`VIR_DOMAIN_EVENT_CALLBACK`), whatever its own signature.
fn generic<F: Copy>(callback: F) -> Generic {
    const { assert!(size_of::<F>() == size_of::<Generic>()) };
    // SAFETY: function pointers all have one representation; to make one is sound, to call it with another signature
    // would not be: libvirt calls the callback of an event id with that id's own, which `watch_domains` pairs.
    unsafe { std::mem::transmute_copy::<F, Generic>(&callback) }
}

/// # Safety
/// To be called by libvirt alone, with a valid domain and the box of [`watch_domains`].
unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    let kind = RawKind::Lifecycle {
        event: event as u32,
        detail: detail as u32,
    };
    // SAFETY: our own caller's promise.
    unsafe { deliver(domain, kind, opaque) };
    0
}

/// # Safety
/// As for [`on_lifecycle`].
unsafe extern "C" fn on_reboot(_: sys::virConnectPtr, domain: sys::virDomainPtr, opaque: *mut c_void) {
    // SAFETY: our own caller's promise.
    unsafe { deliver(domain, RawKind::Reboot, opaque) };
}

/// # Safety
/// As for [`on_lifecycle`]; the strings are valid or null.
unsafe extern "C" fn on_io_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    path: *const c_char,
    _alias: *const c_char,
    _action: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: our own caller's promise.
    unsafe {
        let disk = text(path).unwrap_or_default();
        let reason = text(reason).unwrap_or_default();
        deliver(domain, RawKind::IoError { disk, reason }, opaque);
    }
}

/// # Safety
/// As for [`on_lifecycle`].
unsafe extern "C" fn on_guest_agent(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    state: c_int,
    _reason: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: our own caller's promise.
    unsafe { deliver(domain, RawKind::GuestAgent { state: state as u32 }, opaque) };
}

/// # Safety
/// `domain` is valid, `opaque` the box of [`watch_domains`].
unsafe fn deliver(domain: sys::virDomainPtr, kind: RawKind, opaque: *mut c_void) {
    let mut uuid = [0; sys::VIR_UUID_BUFLEN as usize];
    // SAFETY: the domain is borrowed for the length of the callback; both calls read what the handle itself holds and
    // do not go to libvirtd; the buffer has the size that libvirt asks for.
    let name = unsafe {
        sys::virDomainGetUUID(domain, uuid.as_mut_ptr());
        text(sys::virDomainGetName(domain))
    };
    // SAFETY: libvirt keeps the box until it calls `free_event_sink`, and calls back from one thread.
    let sink = unsafe { &*opaque.cast::<EventSink>() };
    sink(RawEvent {
        name: name.unwrap_or_default(),
        uuid,
        kind,
    });
}

/// # Safety
/// To be called by libvirt alone, with the box of [`watch_close`].
unsafe extern "C" fn on_close(_: sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    // SAFETY: libvirt keeps the box until it calls `free_close_sink`.
    let sink = unsafe { &*opaque.cast::<CloseSink>() };
    sink(reason as u32);
}

/// # Safety
/// `opaque` is the box of [`watch_domains`], given up by whoever held it.
unsafe extern "C" fn free_event_sink(opaque: *mut c_void) {
    // SAFETY: our own caller's promise.
    drop(unsafe { Box::from_raw(opaque.cast::<EventSink>()) });
}

/// # Safety
/// `opaque` is the box of [`watch_close`], given up by whoever held it.
unsafe extern "C" fn free_close_sink(opaque: *mut c_void) {
    // SAFETY: our own caller's promise.
    drop(unsafe { Box::from_raw(opaque.cast::<CloseSink>()) });
}

/// # Safety
/// `pointer` is null or a string that ends with NUL.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: our own caller's promise.
    Some(unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}
