//! How the allocator of the C library behaves.

/// Lets threads share this many of the allocator's arenas (`M_ARENA_MAX` of mallopt(3)).
/// Left alone, glibc makes up to eight for each processor, and each keeps what its threads
/// once used: a daemon that pulls with some dozen threads keeps twice the memory it needs.
/// Other C libraries have no arenas. To be called before there are threads.
pub fn share_arenas(count: u8) {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes numbers alone, and changes only what later allocations do.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, count.into());
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = count;
}
