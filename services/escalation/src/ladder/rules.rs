//! What a ladder is, and what comes next on one. Pure.
//! Deliberately absent: who the people are. Identity says that at each step.

use std::time::Duration;

use mainstay_types::MemberId;
use serde::{Deserialize, Serialize};

/// How a person is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A text message.
    Sms,
    /// Mail.
    Email,
}

impl Channel {
    /// As the database and JSON spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Channel::Sms => "sms",
            Channel::Email => "email",
        }
    }

    /// The one that is spelled so.
    pub fn named(text: &str) -> Option<Self> {
        [Channel::Sms, Channel::Email]
            .into_iter()
            .find(|known| known.as_str() == text)
    }
}

/// A step: who is called, how, and how long nobody else is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// These.
    #[serde(default)]
    pub members: Vec<MemberId>,
    /// And whoever has one of these roles. With neither: everybody who may claim.
    #[serde(default)]
    pub roles: Vec<String>,
    /// How.
    pub channels: Vec<Channel>,
    /// How long.
    pub wait_seconds: u32,
}

/// A ladder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    /// One step after the other; at least one.
    pub steps: Vec<Step>,
    /// How often it is gone through.
    pub rounds: u32,
}

impl Default for Ladder {
    /// For whoever has none: everybody who may claim by text, then once more by text and mail, and all of it three times.
    fn default() -> Self {
        let step = |channels: &[Channel], wait_seconds| Step {
            members: Vec::new(),
            roles: Vec::new(),
            channels: channels.to_vec(),
            wait_seconds,
        };
        Ladder {
            steps: vec![
                step(&[Channel::Sms], 300),
                step(&[Channel::Sms, Channel::Email], 900),
            ],
            rounds: 3,
        }
    }
}

/// A place on a ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub step: usize,
    /// From 1.
    pub round: u32,
}

impl Place {
    /// Where every ladder begins.
    pub const FIRST: Place = Place { step: 0, round: 1 };
}

/// A member who could be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub id: MemberId,
    /// What people call them.
    pub name: String,
    /// Their role.
    pub role: String,
    /// Where mail reaches them.
    pub email: String,
    /// Where texts reach them.
    pub phone: Option<String>,
}

impl Member {
    /// Where a channel reaches them.
    pub fn address(&self, channel: Channel) -> Option<&str> {
        match channel {
            Channel::Sms => self.phone.as_deref(),
            Channel::Email => Some(&self.email),
        }
    }
}

impl Ladder {
    /// The step at a place; none beyond the end.
    pub fn step(&self, place: Place) -> Option<&Step> {
        self.steps
            .get(place.step)
            .filter(|_| place.round <= self.rounds)
    }

    /// The place after one; none after the last.
    pub fn after(&self, place: Place) -> Option<Place> {
        let next = Place {
            step: place.step + 1,
            ..place
        };
        if next.step < self.steps.len() {
            return Some(next);
        }
        let again = Place {
            step: 0,
            round: place.round + 1,
        };
        (again.round <= self.rounds).then_some(again)
    }
}

impl Step {
    /// Whom it calls, and how: those of its members whom a channel reaches.
    pub fn calls<'a>(&self, members: &'a [Member]) -> Vec<(&'a Member, Channel)> {
        let everybody = self.members.is_empty() && self.roles.is_empty();
        let wanted = |member: &&Member| {
            everybody || self.members.contains(&member.id) || self.roles.contains(&member.role)
        };
        let mut calls = Vec::new();
        for member in members.iter().filter(wanted) {
            for channel in &self.channels {
                if member.address(*channel).is_some() {
                    calls.push((member, *channel));
                }
            }
        }
        calls
    }

    /// How long nobody else is called.
    pub fn wait(&self) -> Duration {
        Duration::from_secs(u64::from(self.wait_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(role: &str, phone: Option<&str>) -> Member {
        Member {
            id: MemberId::generate(),
            name: role.to_owned(),
            role: role.to_owned(),
            email: format!("{role}@a.test"),
            phone: phone.map(str::to_owned),
        }
    }

    #[test]
    fn a_ladder_is_gone_through_as_often_as_it_says_and_ends() {
        let ladder = Ladder::default();
        let mut place = Some(Place::FIRST);
        let mut walked = Vec::new();
        while let Some(at) = place {
            assert!(ladder.step(at).is_some());
            walked.push((at.round, at.step));
            place = ladder.after(at);
        }
        assert_eq!(walked, [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]);
        let beyond = Place { step: 0, round: 4 };
        assert_eq!(ladder.step(beyond), None);
    }

    #[test]
    fn a_step_calls_those_it_names_where_they_can_be_reached() {
        let (owner, agent) = (member("owner", Some("+15125550100")), member("agent", None));
        let members = [owner.clone(), agent.clone()];
        let step = |members: &[MemberId], roles: &[&str]| Step {
            members: members.to_vec(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            channels: vec![Channel::Sms, Channel::Email],
            wait_seconds: 60,
        };
        let called = |step: Step| -> Vec<(MemberId, Channel)> {
            let calls = step.calls(&members);
            calls
                .iter()
                .map(|(member, how)| (member.id, *how))
                .collect()
        };
        let of_owner = [(owner.id, Channel::Sms), (owner.id, Channel::Email)];
        let of_agent = (agent.id, Channel::Email);
        assert_eq!(called(step(&[], &["owner"])), of_owner);
        assert_eq!(called(step(&[agent.id], &[])), [of_agent]);
        assert_eq!(called(step(&[], &[])), [of_owner[0], of_owner[1], of_agent]);
        assert_eq!(called(step(&[MemberId::generate()], &["nobody"])), []);
    }
}
