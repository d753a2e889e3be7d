//! Where a message goes to: a telephone number or an email address, as they are kept and looked for.
//! Deliberately absent: correction. What is almost a number belongs to somebody else.

use mainstay_types::format;

use crate::gate::Channel;

/// An address, in the one form that it is kept in: E.164, or an email address in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Address(String);

impl Address {
    /// Reads one.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if format::is_phone(text) {
            return Ok(Address(text.to_owned()));
        }
        // A local part may differ by case (RFC 5321, 2.4) and in practice never does: who opts out as `Ann@` means `ann@`.
        let folded = text.to_ascii_lowercase();
        if format::is_email(&folded) {
            return Ok(Address(folded));
        }
        Err("must be a telephone number in E.164 form, such as +15125550100, or an email address")
    }

    /// As it is kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a telephone number.
    pub fn is_phone(&self) -> bool {
        self.0.starts_with('+') && !self.0.contains('@')
    }

    /// The channels that reach it.
    pub fn channels(&self) -> &'static [Channel] {
        let any = if self.is_phone() {
            Channel::Sms
        } else {
            Channel::Email
        };
        any.with_same_address()
    }
}

/// What was kept is read by the same rule.
impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        Address::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form_and_the_channels_of_its_kind() {
        let mail = Address::parse("Ann.Lee@Example.COM").expect("an address");
        assert_eq!(mail.as_str(), "ann.lee@example.com");
        assert_eq!(mail.channels(), [Channel::Email]);
        let plus = Address::parse("+ann@example.com").expect("an address");
        assert_eq!(plus.channels(), [Channel::Email]);
        let phone = Address::parse("+15125550123").expect("a number");
        assert_eq!(
            phone.channels(),
            [Channel::Sms, Channel::Whatsapp, Channel::Voice]
        );
        for wrong in ["5125550123", "+1 512 555 0123", "ann", "", "@"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
