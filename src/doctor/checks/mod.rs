//! A check a file: each judges the facts in `find`, and has a line in the table of [`super::CHECKS`].

pub(super) mod ceiling;
pub(super) mod crash;
pub(super) mod delay;
pub(super) mod drop_ins;
pub(super) mod elsewhere;
pub(super) mod fights;
pub(super) mod last;
pub(super) mod lost_mark;
pub(super) mod names;
pub(super) mod notice;
pub(super) mod readers;
pub(super) mod requests;
pub(super) mod rights;
pub(super) mod silent;
pub(super) mod tried;
pub(super) mod why;
