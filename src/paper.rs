//! Man pages and completions, as they lie in `dist/`: made from the command line itself by a test, put on hosts by `install`.

macro_rules! paper {
    ($($path:literal),* $(,)?) => {
        /// Each with its path below a prefix such as `/usr/local`, and its text.
        pub const PAPER: &[(&str, &str)] = &[
            $(($path, include_str!(concat!("../dist/", $path)))),*
        ];
    };
}

paper!(
    "usr/share/man/man8/drainctl.8",
    "usr/share/man/man5/drainctl.toml.5",
    "usr/share/bash-completion/completions/drainctl",
    "usr/share/zsh/site-functions/_drainctl",
    "usr/share/fish/vendor_completions.d/drainctl.fish",
);

/// Where a file of [`PAPER`] is put on a host, below what administrators install by hand (FHS 4.9), and where each shell and `man` look.
#[must_use]
pub fn place(path: &str) -> String {
    path.replacen("usr/share", "/usr/local/share", 1)
}

/// A page that a package of ours would bring.
pub const PACKAGED: [&str; 2] = [
    "/usr/share/man/man8/drainctl.8",
    "/usr/share/man/man8/drainctl.8.gz",
];
