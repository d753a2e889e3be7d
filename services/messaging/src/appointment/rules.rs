//! How an appointment can stand, and what reminders tell of it. Pure.
//! Deliberately absent: a way from an end to anything.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Appointment;

/// How an appointment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is to come, or nobody has said yet whether it was kept.
    Booked,
    /// It was called off.
    Canceled,
    /// The lead came.
    Kept,
    /// The lead did not come.
    NoShow,
}

impl State {
    /// All.
    pub const ALL: [State; 4] = [State::Booked, State::Canceled, State::Kept, State::NoShow];

    /// As the database and REST spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Booked => "booked",
            State::Canceled => "canceled",
            State::Kept => "kept",
            State::NoShow => "no_show",
        }
    }

    /// The one that is spelled so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What texts see of it: `appointment.title`, `.starts_at` as people of its time zone say it, `.location` if there is one.
pub fn told(appointment: &Appointment) -> Value {
    let local = appointment.starts_at.with_timezone(&appointment.time_zone);
    let mut told = Map::new();
    told.insert("uuid".to_owned(), json!(appointment.id.uuid()));
    told.insert("title".to_owned(), json!(appointment.title));
    told.insert(
        "starts_at".to_owned(),
        json!(local.format("%a, %b %-d at %-I:%M %p").to_string()),
    );
    if let Some(location) = &appointment.location {
        told.insert("location".to_owned(), json!(location));
    }
    json!({ "appointment": told })
}

#[cfg(test)]
mod tests {
    use mainstay_types::{AppointmentId, LeadId};

    use super::*;

    #[test]
    fn the_time_is_told_as_people_there_say_it() {
        let appointment = Appointment {
            id: AppointmentId::generate(),
            lead: LeadId::generate(),
            title: "Roof inspection".to_owned(),
            location: None,
            starts_at: "2026-11-03T20:05:00Z".parse().expect("a time"),
            time_zone: chrono_tz::America::Chicago,
            state: State::Booked,
            revision: 1,
            created_at: "2026-11-01T20:00:00Z".parse().expect("a time"),
        };
        let told = told(&appointment);
        assert_eq!(told["appointment"]["starts_at"], "Tue, Nov 3 at 2:05 PM");
        assert!(told["appointment"].get("location").is_none());
    }
}
