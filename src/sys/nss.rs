//! Sources of names for the C library. Entry point: [`use_built_in`].
#![cfg_attr(
    all(target_env = "gnu", target_feature = "crt-static"),
    expect(unsafe_code, reason = "the C library's settings have no safe interface")
)]

/// What a static glibc has built in, and looks up without `nsswitch.conf`: users, groups and hosts.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
const BUILT_IN: [(&std::ffi::CStr, &std::ffi::CStr); 3] =
    [(c"passwd", c"files"), (c"group", c"files"), (c"hosts", c"files dns")];

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
unsafe extern "C" {
    fn __nss_configure_lookup(database: *const libc::c_char, sources: *const libc::c_char) -> libc::c_int;
}

/// Keeps a static binary from loading modules for name services of the host.
///
/// `/etc/nsswitch.conf` may name modules such as `resolve`. A static glibc loads them, and with them the host's glibc, also where its
/// version is another one: undefined behaviour. A binary that is linked dynamically uses what the host is configured to use.
pub fn use_built_in() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    for (database, sources) in BUILT_IN {
        // SAFETY: both are C strings that live for ever, and no other thread runs yet (`main` calls this first). A failure, for want of
        // memory, leaves the database as it is configured.
        unsafe {
            __nss_configure_lookup(database.as_ptr(), sources.as_ptr());
        }
    }
}
