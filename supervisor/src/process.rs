//! The epochs' processes: what to run, starting it, its end.
//!
//! A [`Recipe`] is what an epoch was started with, kept so that the very same can be started again: the binary by descriptor (the
//! file may have been replaced since), the command, and a copy of the configuration (it may have been edited since). Children are not tied to the
//! supervisor: they get no parent-death signal, one end of their channel, and no other descriptor but the standard streams.
#![allow(unsafe_code, reason = "a descriptor passes into a child, and processes are held by descriptor")]

mod child;
mod image;
mod kept;
mod recipe;
#[cfg(test)]
mod tests;

pub(crate) use child::{Process, raise_descriptor_limit};
pub(crate) use image::{exec, run};
pub(crate) use kept::Kept;
pub(crate) use recipe::{Recipe, User, Written};
