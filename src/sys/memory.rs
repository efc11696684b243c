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

/// Gives what is free back to the kernel (malloc_trim(3)): glibc by itself does so only at the
/// end of an arena. Takes as long as there is memory to look at, so that it is no call for a
/// thread that serves others.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes a number alone, and touches only what nobody has allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}
