//! The only room that speaks to libvirt: connection, domain and network XML, events.
