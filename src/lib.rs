//! Drains a Linux host before systemd stops it.
