//! Where somebody may be: from what is said of them, and from a telephone number when nothing is said.
//! A number is a presumption: people move and keep theirs, which is why a zone that is given wins.
//! Deliberately absent: a best guess. Whoever is not sure gets every place that is possible.

use chrono_tz::Tz;

use super::hours::{self, Hours};

/// One place somebody may be in: its clock and its law.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its clock.
    pub zone: Tz,
    /// Its law.
    pub hours: &'static Hours,
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.zone == other.zone && std::ptr::eq(self.hours, other.hours)
    }
}

/// How sure the places are: part of the evidence of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// A zone was given.
    Given,
    /// A state was given, or the number's area code belongs to one.
    Region,
    /// Only the country is known.
    Country,
    /// Nothing is known.
    Unknown,
}

impl Certainty {
    /// As evidence spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Certainty::Given => "given",
            Certainty::Region => "region",
            Certainty::Country => "country",
            Certainty::Unknown => "unknown",
        }
    }
}

/// What is known of where somebody is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Their time zone.
    pub zone: Option<Tz>,
    /// Their state, by its two letters; one that is not in the table counts as not given.
    pub state: Option<&'a str>,
    /// Their number, E.164.
    pub phone: Option<&'a str>,
    /// The zone of who writes to them.
    pub sender: Option<Tz>,
}

/// A region of the North American numbering plan: its letters, its law, its zones, its area codes.
struct Region {
    code: &'static str,
    country: Country,
    zones: &'static [Tz],
    area_codes: &'static [u16],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Country {
    UnitedStates,
    Canada,
    Other,
}

/// All places that are possible, each once; never empty.
pub fn plausible(known: &Known<'_>) -> (Vec<Place>, Certainty) {
    let by_number = known.phone.and_then(area_code).and_then(region_of);
    let region = known.state.and_then(region_named).or(by_number);
    if let Some(zone) = known.zone {
        // The clock is certain; the law is the state's, or that of every state that keeps this clock.
        let laws = match region {
            Some(region) => vec![region.hours()],
            None => laws_by_the_clock(zone),
        };
        let places = laws.into_iter().map(|hours| Place { zone, hours });
        return (places.collect(), Certainty::Given);
    }
    if let Some(region) = region {
        return (region.places().collect(), Certainty::Region);
    }
    match known.phone {
        Some(phone) if phone.starts_with("+1") => (united_states(), Certainty::Country),
        Some(phone) => match country_zones(phone) {
            Some(zones) => (federal(zones), Certainty::Country),
            None => (somewhere(known.sender), Certainty::Unknown),
        },
        None => (somewhere(known.sender), Certainty::Unknown),
    }
}

/// Whether the table knows these two letters.
pub fn is_region(state: &str) -> bool {
    region_named(state).is_some()
}

fn region_named(state: &str) -> Option<&'static Region> {
    REGIONS.iter().find(|region| region.code == state)
}

fn region_of(area_code: u16) -> Option<&'static Region> {
    REGIONS
        .iter()
        .find(|region| region.area_codes.contains(&area_code))
}

fn area_code(phone: &str) -> Option<u16> {
    let national = phone.strip_prefix("+1")?;
    if national.len() != 10 {
        return None;
    }
    national.get(..3)?.parse().ok()
}

impl Region {
    fn hours(&self) -> &'static Hours {
        match self.country {
            Country::UnitedStates => hours::of_state(self.code),
            Country::Canada => &hours::CANADA,
            Country::Other => &hours::FEDERAL,
        }
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let hours = self.hours();
        self.zones
            .iter()
            .map(move |zone| Place { zone: *zone, hours })
    }
}

/// The laws of the states that keep this clock; the federal hours where none does.
fn laws_by_the_clock(zone: Tz) -> Vec<&'static Hours> {
    let mut laws: Vec<&'static Hours> = Vec::new();
    for region in REGIONS.iter().filter(|region| region.zones.contains(&zone)) {
        if !laws.contains(&region.hours()) {
            laws.push(region.hours());
        }
    }
    if laws.is_empty() {
        laws.push(&hours::FEDERAL);
    }
    laws
}

/// Everywhere in the fifty states and the capital.
fn united_states() -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let states = REGIONS
        .iter()
        .filter(|region| region.country == Country::UnitedStates);
    for place in states.flat_map(Region::places) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

fn federal(zones: &[Tz]) -> Vec<Place> {
    let hours = &hours::FEDERAL;
    zones
        .iter()
        .map(|zone| Place { zone: *zone, hours })
        .collect()
}

/// Nothing is known: people mostly write to their neighbours, and UTC keeps a sender far from everybody honest. Who does
/// not even know the sender takes the whole country for the neighbourhood.
fn somewhere(sender: Option<Tz>) -> Vec<Place> {
    let mut places = match sender {
        Some(zone) => federal(&[zone]),
        None => united_states(),
    };
    if !places.iter().any(|place| place.zone == Tz::UTC) {
        places.extend(federal(&[Tz::UTC]));
    }
    places
}

/// The zones of the country that the number belongs to, where the table knows it. Calling codes are prefix-free.
fn country_zones(phone: &str) -> Option<&'static [Tz]> {
    let digits = phone.strip_prefix('+')?;
    COUNTRIES
        .iter()
        .find(|(code, _)| digits.starts_with(code))
        .map(|(_, zones)| *zones)
}

/// Countries by calling code, with the zones farthest apart in each: what lies between them is bound by both.
static COUNTRIES: &[(&str, &[Tz])] = &[
    ("27", &[Tz::Africa__Johannesburg]),
    ("31", &[Tz::Europe__Amsterdam]),
    ("32", &[Tz::Europe__Brussels]),
    ("33", &[Tz::Europe__Paris]),
    ("34", &[Tz::Europe__Madrid, Tz::Atlantic__Canary]),
    ("351", &[Tz::Europe__Lisbon, Tz::Atlantic__Azores]),
    ("353", &[Tz::Europe__Dublin]),
    ("358", &[Tz::Europe__Helsinki]),
    ("39", &[Tz::Europe__Rome]),
    ("41", &[Tz::Europe__Zurich]),
    ("43", &[Tz::Europe__Vienna]),
    ("44", &[Tz::Europe__London]),
    ("45", &[Tz::Europe__Copenhagen]),
    ("46", &[Tz::Europe__Stockholm]),
    ("47", &[Tz::Europe__Oslo]),
    ("48", &[Tz::Europe__Warsaw]),
    ("49", &[Tz::Europe__Berlin]),
    (
        "52",
        &[
            Tz::America__Tijuana,
            Tz::America__Hermosillo,
            Tz::America__Mexico_City,
            Tz::America__Cancun,
        ],
    ),
    ("54", &[Tz::America__Argentina__Buenos_Aires]),
    (
        "55",
        &[
            Tz::America__Rio_Branco,
            Tz::America__Sao_Paulo,
            Tz::America__Noronha,
        ],
    ),
    ("57", &[Tz::America__Bogota]),
    ("60", &[Tz::Asia__Kuala_Lumpur]),
    (
        "61",
        &[
            Tz::Australia__Perth,
            Tz::Australia__Darwin,
            Tz::Australia__Adelaide,
            Tz::Australia__Brisbane,
            Tz::Australia__Sydney,
            Tz::Indian__Christmas,
        ],
    ),
    ("62", &[Tz::Asia__Jakarta, Tz::Asia__Jayapura]),
    ("63", &[Tz::Asia__Manila]),
    ("64", &[Tz::Pacific__Auckland, Tz::Pacific__Chatham]),
    ("65", &[Tz::Asia__Singapore]),
    ("81", &[Tz::Asia__Tokyo]),
    ("82", &[Tz::Asia__Seoul]),
    ("86", &[Tz::Asia__Shanghai]),
    ("90", &[Tz::Europe__Istanbul]),
    ("91", &[Tz::Asia__Kolkata]),
    ("966", &[Tz::Asia__Riyadh]),
    ("971", &[Tz::Asia__Dubai]),
    ("972", &[Tz::Asia__Jerusalem]),
];

macro_rules! regions {
    ($($country:ident $code:literal [$($zone:ident),+] [$($area:literal),+];)*) => {
        static REGIONS: &[Region] = &[$(Region {
            code: $code,
            country: Country::$country,
            zones: &[$(Tz::$zone),+],
            area_codes: &[$($area),+],
        }),*];
    };
}

// Area codes in service by the numbering plan's list, 2026. A state with several zones has them all: an area code's
// boundary is not a zone's. Codes that belong to no place (toll-free, 5XX) are deliberately in none.
regions! {
    UnitedStates "AK" [America__Anchorage, America__Adak] [907];
    UnitedStates "AL" [America__Chicago, America__New_York] [205, 251, 256, 334, 659, 938];
    UnitedStates "AR" [America__Chicago] [327, 479, 501, 870];
    UnitedStates "AZ" [America__Phoenix, America__Denver] [480, 520, 602, 623, 928];
    UnitedStates "CA" [America__Los_Angeles] [209, 213, 279, 310, 323, 341, 350, 357, 369, 408, 415, 424, 442, 510, 530,
        559, 562, 619, 626, 628, 650, 657, 661, 669, 707, 714, 738, 747, 760, 805, 818, 820, 831, 837, 840, 858, 909,
        916, 925, 949, 951];
    UnitedStates "CO" [America__Denver] [303, 719, 720, 748, 970, 983];
    UnitedStates "CT" [America__New_York] [203, 475, 860, 959];
    UnitedStates "DC" [America__New_York] [202, 771];
    UnitedStates "DE" [America__New_York] [302];
    UnitedStates "FL" [America__New_York, America__Chicago] [239, 305, 321, 324, 352, 386, 407, 448, 561, 645, 656, 689,
        727, 728, 754, 772, 786, 813, 850, 863, 904, 941, 954];
    UnitedStates "GA" [America__New_York] [229, 404, 470, 478, 678, 706, 762, 770, 912, 943];
    UnitedStates "HI" [Pacific__Honolulu] [808];
    UnitedStates "IA" [America__Chicago] [319, 515, 563, 641, 712];
    UnitedStates "ID" [America__Boise, America__Los_Angeles] [208, 986];
    UnitedStates "IL" [America__Chicago] [217, 224, 309, 312, 331, 447, 464, 618, 630, 708, 730, 773, 779, 815, 847, 861,
        872];
    UnitedStates "IN" [America__Indiana__Indianapolis, America__Chicago] [219, 260, 317, 463, 574, 765, 812, 930];
    UnitedStates "KS" [America__Chicago, America__Denver] [316, 620, 785, 913];
    UnitedStates "KY" [America__New_York, America__Chicago] [270, 364, 502, 606, 859];
    UnitedStates "LA" [America__Chicago] [225, 318, 337, 457, 504, 985];
    UnitedStates "MA" [America__New_York] [339, 351, 413, 508, 617, 774, 781, 857, 978];
    UnitedStates "MD" [America__New_York] [227, 240, 301, 410, 443, 667];
    UnitedStates "ME" [America__New_York] [207];
    UnitedStates "MI" [America__Detroit, America__Chicago] [231, 248, 269, 313, 517, 586, 616, 679, 734, 810, 906, 947,
        989];
    UnitedStates "MN" [America__Chicago] [218, 320, 507, 612, 651, 763, 924, 952];
    UnitedStates "MO" [America__Chicago] [235, 314, 417, 557, 573, 636, 660, 816, 975];
    UnitedStates "MS" [America__Chicago] [228, 471, 601, 662, 769];
    UnitedStates "MT" [America__Denver] [406];
    UnitedStates "NC" [America__New_York] [252, 336, 472, 704, 743, 828, 910, 919, 980, 984];
    UnitedStates "ND" [America__Chicago, America__Denver] [701];
    UnitedStates "NE" [America__Chicago, America__Denver] [308, 402, 531];
    UnitedStates "NH" [America__New_York] [603];
    UnitedStates "NJ" [America__New_York] [201, 551, 609, 640, 732, 848, 856, 862, 908, 973];
    UnitedStates "NM" [America__Denver] [505, 575];
    UnitedStates "NV" [America__Los_Angeles, America__Denver] [702, 725, 775];
    UnitedStates "NY" [America__New_York] [212, 315, 329, 332, 347, 363, 465, 516, 518, 585, 607, 624, 631, 646, 680, 716,
        718, 838, 845, 914, 917, 929, 934];
    UnitedStates "OH" [America__New_York] [216, 220, 234, 283, 326, 330, 380, 419, 436, 440, 513, 567, 614, 740, 937];
    UnitedStates "OK" [America__Chicago] [405, 539, 572, 580, 918];
    UnitedStates "OR" [America__Los_Angeles, America__Boise] [458, 503, 541, 971];
    UnitedStates "PA" [America__New_York] [215, 223, 267, 272, 412, 445, 484, 570, 582, 610, 717, 724, 814, 835, 878];
    UnitedStates "RI" [America__New_York] [401];
    UnitedStates "SC" [America__New_York] [803, 821, 839, 843, 854, 864];
    UnitedStates "SD" [America__Chicago, America__Denver] [605];
    UnitedStates "TN" [America__Chicago, America__New_York] [423, 615, 629, 731, 729, 865, 901, 931];
    UnitedStates "TX" [America__Chicago, America__Denver] [210, 214, 254, 281, 325, 346, 361, 409, 430, 432, 469, 512, 621,
        682, 713, 726, 737, 806, 817, 830, 832, 903, 915, 936, 940, 945, 956, 972, 979];
    UnitedStates "UT" [America__Denver] [385, 435, 801];
    UnitedStates "VA" [America__New_York] [276, 434, 540, 571, 686, 703, 757, 804, 826, 948];
    UnitedStates "VT" [America__New_York] [802];
    UnitedStates "WA" [America__Los_Angeles] [206, 253, 360, 425, 509, 564];
    UnitedStates "WI" [America__Chicago] [262, 274, 353, 414, 534, 608, 715, 920];
    UnitedStates "WV" [America__New_York] [304, 681];
    UnitedStates "WY" [America__Denver] [307];
    Other "PR" [America__Puerto_Rico] [787, 939];
    Other "VI" [America__St_Thomas] [340];
    Other "GU" [Pacific__Guam] [671];
    Other "MP" [Pacific__Saipan] [670];
    Other "AS" [Pacific__Pago_Pago] [684];
    Canada "AB" [America__Edmonton] [368, 403, 587, 780, 825];
    Canada "BC" [America__Vancouver, America__Edmonton] [236, 250, 257, 604, 672, 778];
    Canada "MB" [America__Winnipeg] [204, 431, 584];
    Canada "NB" [America__Moncton] [428, 506];
    Canada "NL" [America__St_Johns, America__Goose_Bay] [709, 879];
    Canada "NS" [America__Halifax] [782, 902];
    Canada "ON" [America__Toronto, America__Winnipeg] [226, 249, 289, 343, 365, 382, 387, 416, 437, 519, 548, 613, 647, 683,
        705, 742, 753, 807, 905, 942];
    Canada "QC" [America__Toronto, America__Halifax] [263, 354, 367, 418, 438, 450, 468, 514, 579, 581, 819, 873];
    Canada "SK" [America__Regina, America__Edmonton] [306, 474, 639];
    Canada "YT" [America__Whitehorse, America__Vancouver, America__Iqaluit, America__Edmonton] [867];
    Other "BS" [America__Nassau] [242];
    Other "BB" [America__Barbados] [246];
    Other "AI" [America__Anguilla] [264];
    Other "AG" [America__Antigua] [268];
    Other "VG" [America__Tortola] [284];
    Other "KY-CAYMAN" [America__Cayman] [345];
    Other "BM" [Atlantic__Bermuda] [441];
    Other "GD" [America__Grenada] [473];
    Other "TC" [America__Grand_Turk] [649];
    Other "JM" [America__Jamaica] [658, 876];
    Other "MS-MONTSERRAT" [America__Montserrat] [664];
    Other "SX" [America__Lower_Princes] [721];
    Other "LC" [America__St_Lucia] [758];
    Other "DM" [America__Dominica] [767];
    Other "VC" [America__St_Vincent] [784];
    Other "DO" [America__Santo_Domingo] [809, 829, 849];
    Other "TT" [America__Port_of_Spain] [868];
    Other "KN" [America__St_Kitts] [869];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(known: Known<'_>) -> (Vec<&'static str>, Certainty) {
        let (places, certainty) = plausible(&known);
        let mut zones: Vec<_> = places.iter().map(|place| place.zone.name()).collect();
        zones.dedup();
        (zones, certainty)
    }

    fn number(phone: &str) -> Known<'_> {
        Known {
            phone: Some(phone),
            sender: Some(Tz::America__Chicago),
            ..Known::default()
        }
    }

    #[test]
    fn every_area_code_belongs_to_one_region() {
        let mut seen = std::collections::BTreeMap::new();
        for region in REGIONS {
            for code in region.area_codes {
                assert!((200..1000).contains(code), "{code}");
                let before = seen.insert(code, region.code);
                assert_eq!(before, None, "{code} is also in {}", region.code);
            }
        }
        let states = REGIONS
            .iter()
            .filter(|r| r.country == Country::UnitedStates);
        assert_eq!(states.count(), 51);
    }

    #[test]
    fn no_calling_code_begins_with_another() {
        for (code, _) in COUNTRIES {
            let clash = COUNTRIES
                .iter()
                .any(|(other, _)| other != code && other.starts_with(code));
            assert!(!clash, "{code}");
        }
    }

    #[test]
    fn an_area_code_gives_all_the_zones_of_its_state() {
        let (zones, certainty) = places(number("+18505550100"));
        assert_eq!(zones, ["America/New_York", "America/Chicago"]);
        assert_eq!(certainty, Certainty::Region);
    }

    #[test]
    fn a_zone_that_is_given_wins_and_the_law_stays_that_of_the_number() {
        let known = Known {
            zone: Some(Tz::America__Los_Angeles),
            ..number("+13055550100")
        };
        let (places, certainty) = plausible(&known);
        assert_eq!(certainty, Certainty::Given);
        let place = places.first().expect("one");
        assert_eq!((places.len(), place.zone), (1, Tz::America__Los_Angeles));
        assert_eq!(place.hours, hours::of_state("FL"));
    }

    #[test]
    fn a_zone_alone_brings_every_law_that_is_kept_by_its_clock() {
        let known = Known {
            zone: Some(Tz::America__Chicago),
            ..Known::default()
        };
        let (places, _) = plausible(&known);
        for state in ["TX", "LA", "FL", "OK", "IL"] {
            let law = hours::of_state(state);
            assert!(places.iter().any(|place| place.hours == law), "{state}");
        }
    }

    #[test]
    fn a_state_that_is_given_wins_over_the_number() {
        let known = Known {
            state: Some("HI"),
            ..number("+13055550100")
        };
        assert_eq!(places(known).0, ["Pacific/Honolulu"]);
    }

    #[test]
    fn a_number_of_no_place_may_be_anywhere_in_the_country() {
        for phone in ["+18005550100", "+15005550006", "+1555"] {
            let (zones, certainty) = places(number(phone));
            assert_eq!(certainty, Certainty::Country, "{phone}");
            for zone in ["America/New_York", "Pacific/Honolulu", "America/Adak"] {
                assert!(zones.contains(&zone), "{phone} {zone}");
            }
        }
    }

    #[test]
    fn abroad_it_is_the_country_and_else_the_sender_and_utc() {
        assert_eq!(places(number("+442071838750")).0, ["Europe/London"]);
        let (zones, certainty) = places(number("+37455550100"));
        assert_eq!(zones, ["America/Chicago", "UTC"]);
        assert_eq!(certainty, Certainty::Unknown);
        let (zones, _) = places(Known::default());
        assert!(zones.contains(&"UTC") && zones.contains(&"Pacific/Honolulu"));
    }
}
