//! How wide the terminal is.

/// Columns of the terminal on stderr, asked anew each time as it may be resized; 80 when it does not tell.
pub(crate) fn stderr_columns() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills a winsize, which `size` is; it outlives the call.
    let answer = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    if answer == 0 && size.ws_col > 0 { usize::from(size.ws_col) } else { 80 }
}
