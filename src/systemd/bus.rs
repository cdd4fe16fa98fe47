//! PID 1 over the system bus.

use std::sync::mpsc;
use std::thread;

use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use super::Error;
use super::view::{Job, Snapshot, UnitState};
use crate::world::Deadline;

pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
pub(super) const ROOT_PATH: &str = "/org/freedesktop/systemd1";

/// Asks in a thread of its own, which is left behind when it is late: a connect to a stuck bus can't be cancelled.
pub(super) fn snapshot(units: &[String], deadline: Deadline) -> Result<Snapshot, Error> {
    let units = units.to_vec();
    within(deadline, move || {
        zbus::block_on(async {
            let bus = Connection::system().await?;
            ask(&bus, &units).await
        })
    })
}

pub(super) fn within<T: Send + 'static>(
    deadline: Deadline,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (answer, answered) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("bus".to_owned())
        .spawn(move || {
            // Nobody listens any more when we are late.
            let _ = answer.send(work());
        })
        .map_err(|error| Error::Bus(error.into()))?;
    answered
        .recv_timeout(deadline.left())
        .map_err(|_| Error::BusTimedOut)?
}

/// A unit as `ListUnits` and `ListUnitsByNames` tell it: name, description, load, active and sub state, followed unit, path, job.
pub(super) type Listed = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

async fn ask(bus: &Connection, names: &[String]) -> Result<Snapshot, Error> {
    let system_state = property(bus, SYSTEMD, ROOT_PATH, MANAGER, "SystemState").await?;
    let jobs = bus
        .call_method(Some(SYSTEMD), ROOT_PATH, Some(MANAGER), "ListJobs", &())
        .await?;
    let jobs: Vec<(
        u32,
        String,
        String,
        String,
        OwnedObjectPath,
        OwnedObjectPath,
    )> = jobs.body().deserialize()?;
    let listed = bus
        .call_method(
            Some(SYSTEMD),
            ROOT_PATH,
            Some(MANAGER),
            "ListUnitsByNames",
            &(names,),
        )
        .await?;
    let listed: Vec<Listed> = listed.body().deserialize()?;
    // The answer keeps the order of the names, and gives real names for aliases.
    if listed.len() != names.len() {
        return Err(Error::Answer(format!(
            "{} units for {} names",
            listed.len(),
            names.len()
        )));
    }
    let mut units = Vec::new();
    for (name, (id, _, load_state, active_state, sub_state, _, path, ..)) in
        names.iter().zip(listed)
    {
        let mut unit = UnitState {
            name: name.clone(),
            id,
            load_state,
            active_state,
            sub_state,
            ..UnitState::default()
        };
        if unit.load_state == "not-found" && unit.active_state == "inactive" {
            units.push(unit);
            continue;
        }
        let interface = match unit.id.rsplit_once('.') {
            Some((_, "service")) => "org.freedesktop.systemd1.Service",
            Some((_, "scope")) => "org.freedesktop.systemd1.Scope",
            Some((_, "slice")) => "org.freedesktop.systemd1.Slice",
            // Nothing of ours runs in the others.
            _ => "",
        };
        if !interface.is_empty() {
            unit.control_group = property(bus, SYSTEMD, &path, interface, "ControlGroup").await?;
        }
        if interface.ends_with("Service") {
            unit.main_pid = property(bus, SYSTEMD, &path, interface, "MainPID").await?;
        }
        units.push(unit);
    }
    Ok(Snapshot {
        system_state,
        jobs: jobs
            .into_iter()
            .map(|(id, unit, kind, state, ..)| Job {
                id,
                unit,
                kind,
                state,
            })
            .collect(),
        units,
    })
}

/// A property of an object of `service`.
pub(super) async fn property<T>(
    bus: &Connection,
    service: &str,
    path: &str,
    interface: &str,
    name: &str,
) -> Result<T, Error>
where
    T: TryFrom<OwnedVariant, Error = zbus::Error>,
{
    Ok(T::try_from(
        variant(bus, service, path, interface, name).await?,
    )?)
}

/// The same, of any type.
pub(super) async fn variant(
    bus: &Connection,
    service: &str,
    path: &str,
    interface: &str,
    name: &str,
) -> Result<OwnedVariant, Error> {
    let answer = bus
        .call_method(
            Some(service),
            path,
            Some(PROPERTIES),
            "Get",
            &(interface, name),
        )
        .await?;
    Ok(answer.body().deserialize()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_bus_that_hangs_is_left_behind() {
        let begun = Instant::now();
        let answer: Result<(), Error> = within(Deadline::after(Duration::from_millis(50)), || {
            loop {
                thread::park();
            }
        });
        assert!(matches!(answer, Err(Error::BusTimedOut)));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
