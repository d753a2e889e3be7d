//! What a message of theirs says about being written to: stop, start again, help. In English and in Spanish.
//!
//! Exact words do what carriers and the FCC's list say (47 CFR 64.1200(a)(10)). Natural phrasing can only suppress: who is
//! read wrongly then is not written to, which can be mended; nobody is opted in but by a word meant for it.
//! Deliberately absent: a language model. What the law calls any reasonable means has to read the same tomorrow.

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Not to be written to any more.
    OptOut,
    /// To be written to again.
    OptIn,
    /// Who this is and how to stop it.
    Help,
}

/// Words that opt out when they are all there is.
const STOP: &[&str] = &[
    "stop",
    "stopall",
    "stop all",
    "unsubscribe",
    "cancel",
    "end",
    "quit",
    "revoke",
    "optout",
    "opt out",
    "remove",
    "unsub",
    "unsuscribe",
    "stopp",
    "alto",
    "parar",
    "para",
    "pare",
    "paren",
    "cancelar",
    "detener",
    "baja",
    "dar de baja",
    "salir",
    "terminar",
    "basta",
    "no mas",
    "desuscribir",
    "desuscribirme",
    "eliminar",
];

/// Those that opt out even when they are only one sentence of several. `Cancel.` after a question is about the
/// appointment; `Stop.` is about the texts.
const STOP_ANYWHERE: &[&str] = &[
    "stop",
    "stopall",
    "stop all",
    "unsubscribe",
    "optout",
    "opt out",
    "revoke",
    "alto",
    "parar",
    "dar de baja",
];

/// Words that opt in, when they are all there is.
const START: &[&str] = &[
    "start",
    "unstop",
    "yes",
    "optin",
    "opt in",
    "subscribe",
    "resubscribe",
    "empezar",
    "iniciar",
    "comenzar",
    "si",
    "suscribir",
];

/// Words that ask for help, when they are all there is.
const HELP: &[&str] = &["help", "info", "ayuda", "informacion"];

/// What may stand around a word without changing it.
const POLITE: &[&str] = &[
    "please", "pls", "plz", "thanks", "thank", "you", "ty", "now", "ok", "okay", "hi", "hello",
    "hey", "sorry", "sir", "maam", "just", "por", "favor", "porfavor", "gracias", "ya", "hola",
    "ahora",
];

/// Sequences of words that opt out wherever they stand. `_` is any one word; `a|b` is either.
const PHRASES: &[&str] = &[
    "stop|quit|cease texting|messaging|calling|emailing|contacting|sending|msging|txting|spamming|bothering|harassing|bugging",
    "stop|quit|cease these|the|this|your|all|with texts|messages|calls|emails|texting|messaging|spam",
    "stop|quit the|these|this|your|all the|these|this|your texts|messages|calls|emails|spam",
    "stop it|this",
    "take|get me|us|my off",
    "take|get|remove|delete me|us|my|this from|name|number|phone|email|address|off",
    "remove|unsubscribe|delete me|us",
    "lose|forget|delete|erase my|this number",
    "opt me out",
    "want|like|wish to unsubscribe",
    "want|like|wish to opt out",
    "want|like|wish to be removed",
    "revoke|withdraw my|all consent|permission",
    "cease and desist",
    "leave me|us alone",
    "no more texts|text|messages|message|calls|emails|msgs",
    "no longer want|wish to",
    "dont|not want|wish to receive|get",
    "dont|not want|wish to be contacted|texted|called|emailed|messaged",
    "dont|not want any|more|your|these|the texts|messages|calls|emails",
    "dont|not want any|your more|other texts|messages|calls|emails",
    "dont|not want texts|messages|calls|emails",
    "dejen|deja|deje|paren|pare de escribirme|mandarme|enviarme|llamarme|molestar|molestarme|contactarme|mandar|enviar|escribir|llamar",
    "no me|nos escriban|escribas|escriba|manden|mandes|mande|envien|envies|envie|llamen|llames|llame|contacten|contactes|contacte|molesten|molestes|moleste",
    "no quiero recibir|mas|sus",
    "no mas mensajes|textos|llamadas|correos",
    "quitame|quitenme|quiteme|sacame|saquenme|saqueme|borrame|borrenme|borreme|eliminame|eliminenme|elimineme|denme de|del",
    "quiero|quisiera darme|cancelar de|la baja|suscripcion",
    "denme|deme|dame de baja",
];

/// `don't text me`, which ends there or goes on with one of [`FOR_GOOD`]; with `before 8` it is about an hour, not about us.
const DO_NOT: &[&str] = &[
    "dont|never|not text|message|contact|call|email|msg|txt|write|bother me|us",
    "dont|never|not send me|us texts|messages|emails|anything|this|these",
    "dont|never|not text|message|contact|call|email this number|phone",
];

/// What limits a `don't text me` to a time or a way; then a person has to read it.
const LIMITS: &[&str] = &[
    "before", "after", "until", "till", "til", "at", "on", "tomorrow", "today", "tonight",
    "during", "while", "between", "yet", "back", "so", "right", "now", "this", "if", "unless",
    "when", "about",
];

/// Words that turn a `stop` around.
const NEGATIONS: &[&str] = &[
    "dont", "not", "never", "cant", "wont", "didnt", "doesnt", "without", "nunca",
];

/// Longest message that is read, in characters: ten segments of SMS. What asks to stop does so before.
const READ: usize = 1600;

/// Reads a message. None: it is conversation.
pub fn read(message: &str) -> Option<Asks> {
    let sentences = sentences(message);
    let all: Vec<&str> = sentences.iter().flatten().map(String::as_str).collect();
    let core = spelled_out(&all);
    let core: Vec<&str> = core.iter().map(String::as_str).collect();
    let said = bare(&core);
    if is_one_of(&said, STOP) {
        return Some(Asks::OptOut);
    }
    if is_one_of(&said, START) {
        return Some(Asks::OptIn);
    }
    if is_one_of(&said, HELP) {
        return Some(Asks::Help);
    }
    let sentence_stops = sentences.iter().any(|sentence| {
        let words: Vec<&str> = sentence.iter().map(String::as_str).collect();
        is_one_of(&bare(&words), STOP_ANYWHERE) || has_phrase(&words) || has_do_not(&words)
    });
    sentence_stops.then_some(Asks::OptOut)
}

/// Lower case, no accents, words joined across apostrophes and hyphens (`don't`, `opt-out`, `non-stop`), split into
/// sentences where one ends or pauses.
fn sentences(message: &str) -> Vec<Vec<String>> {
    let mut sentences = vec![Vec::new()];
    let mut word = String::new();
    let mut characters = message.chars().take(READ).peekable();
    while let Some(character) = characters.next() {
        if character.is_alphanumeric() {
            word.extend(character.to_lowercase().map(plain));
            continue;
        }
        let joins = matches!(character, '\'' | '’' | '‘' | 'ʼ' | '`' | '-' | '‐' | '‑')
            && characters.peek().is_some_and(|next| next.is_alphanumeric());
        // Invisible: soft hyphen, zero-width space and joiners, combining accents.
        let invisible = matches!(character, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{feff}' | '\u{300}'..='\u{36f}');
        if invisible || (joins && !word.is_empty()) {
            continue;
        }
        if let Some(sentence) = sentences.last_mut()
            && !word.is_empty()
        {
            sentence.push(std::mem::take(&mut word));
        }
        if matches!(
            character,
            '.' | '!' | '?' | '¡' | '¿' | ';' | ',' | ':' | '\n'
        ) {
            sentences.push(Vec::new());
        }
    }
    if let Some(sentence) = sentences.last_mut()
        && !word.is_empty()
    {
        sentence.push(word);
    }
    sentences.retain(|sentence| !sentence.is_empty());
    sentences
}

fn plain(letter: char) -> char {
    match letter {
        'á' | 'à' | 'â' | 'ä' => 'a',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'í' | 'ì' | 'î' | 'ï' => 'i',
        'ó' | 'ò' | 'ô' | 'ö' => 'o',
        'ú' | 'ù' | 'û' | 'ü' => 'u',
        'ñ' => 'n',
        // Full-width letters, as some keyboards have them.
        'ａ'..='ｚ' => char::from_u32(u32::from(letter) - 0xff41 + 0x61).unwrap_or(letter),
        other => other,
    }
}

/// `S T O P` is a word.
fn spelled_out(words: &[&str]) -> Vec<String> {
    if words.len() > 2 && words.iter().all(|word| word.chars().count() == 1) {
        return vec![words.concat()];
    }
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Without politeness at either end, and without saying the same twice.
fn bare<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let polite = |word: &&str| POLITE.contains(word);
    let start = words.iter().take_while(|word| polite(word)).count();
    let end = words.iter().rev().take_while(|word| polite(word)).count();
    let mut core = words
        .get(start..words.len().saturating_sub(end))
        .unwrap_or_default()
        .to_vec();
    core.dedup();
    core
}

fn is_one_of(said: &[&str], list: &[&str]) -> bool {
    !said.is_empty() && said.len() <= 3 && list.contains(&said.join(" ").as_str())
}

/// Where a pattern ends in the words, for each place where it starts unnegated.
fn ends<'a>(words: &'a [&str], pattern: &'a str) -> impl Iterator<Item = usize> + 'a {
    let steps: Vec<&str> = pattern.split(' ').collect();
    (0..words.len()).filter_map(move |start| {
        let end = start + steps.len();
        let found = words.get(start..end)?;
        let matches = found
            .iter()
            .zip(&steps)
            .all(|(word, step)| *step == "_" || step.split('|').any(|either| either == *word));
        let negated = words
            .get(start.saturating_sub(2)..start)
            .is_some_and(|before| before.iter().any(|word| NEGATIONS.contains(word)));
        (matches && !negated).then_some(end)
    })
}

fn has_phrase(words: &[&str]) -> bool {
    PHRASES
        .iter()
        .any(|pattern| ends(words, pattern).next().is_some())
}

fn has_do_not(words: &[&str]) -> bool {
    DO_NOT.iter().any(|pattern| {
        ends(words, pattern).any(|end| words.get(end).is_none_or(|next| !LIMITS.contains(next)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_words_of_the_law_stop_however_they_are_typed() {
        for word in [
            "STOP",
            "STOPALL",
            "UNSUBSCRIBE",
            "CANCEL",
            "END",
            "QUIT",
            "REVOKE",
            "OPTOUT",
            "ALTO",
            "PARAR",
        ] {
            let lower = word.to_lowercase();
            for message in [
                word.to_owned(),
                format!(" {word}. "),
                format!("{lower}!!!"),
                format!("\"{word}\""),
                format!("Please {lower}"),
                format!("{word} {word}"),
                format!("{lower} 🛑"),
                format!("{word}, thank you"),
                format!("\n{lower}\n"),
            ] {
                assert_eq!(read(&message), Some(Asks::OptOut), "{message:?}");
            }
        }
    }

    #[test]
    fn natural_phrasing_stops_too() {
        for message in [
            "please stop texting me",
            "Don't text me again",
            "don’t text me anymore!!",
            "Do not contact me.",
            "Never call me again",
            "Take me off your list",
            "please take me off this list",
            "remove me from your list pls",
            "Remove my number",
            "lose my number",
            "leave me alone",
            "I want to opt out",
            "opt-out",
            "Opt me out please",
            "no more texts",
            "Stop. Who is this?",
            "who is this? STOP",
            "stop sending me these messages",
            "Quit calling me",
            "I do not want to receive these messages",
            "i dont want any more texts",
            "I don't want your messages",
            "I revoke my consent",
            "unsubscribe me",
            "how do I stop these messages",
            "stop all the texts",
            "STOP\n\nSent from my iPhone",
            "S T O P",
            "ＳＴＯＰ",
            "st\u{200b}op",
            "ya no me escriban más",
            "No me manden mensajes",
            "dejen de llamarme",
            "no quiero recibir más mensajes",
            "¡ALTO!",
            "basta por favor",
            "dar de baja",
            "Quítenme de la lista",
            "No más mensajes",
            "quiero darme de baja",
        ] {
            assert_eq!(read(message), Some(Asks::OptOut), "{message:?}");
        }
    }

    #[test]
    fn what_only_sounds_like_it_is_conversation() {
        for message in [
            "stop by the shop tomorrow",
            "Can you stop by around 3?",
            "non-stop",
            "It has been raining nonstop",
            "the bus stop on Main",
            "I can't stop laughing",
            "don't stop texting me, I like it",
            "please do not stop sending the reminders",
            "don't unsubscribe me",
            "Cancel my appointment on Friday",
            "can we cancel?",
            "3pm is too late. Cancel.",
            "At the end of the month",
            "what day does it end",
            "I quit my job",
            "Don't call me before 5",
            "dont text me right now, driving",
            "yes please come at 4",
            "Yes, tomorrow works",
            "Help me choose a roof",
            "I need more info about pricing",
            "start on Monday",
            "para el lunes está bien",
            "si puede venir mañana",
            "pare en la esquina",
            "take the old gutters off",
            "not interested in blue, have red?",
            "",
            "   ",
            "👍",
        ] {
            assert_eq!(read(message), None, "{message:?}");
        }
    }

    #[test]
    fn only_a_word_of_its_own_opts_in_or_asks_for_help() {
        for message in ["START", " unstop ", "Yes", "yes please", "Sí", "empezar"] {
            assert_eq!(read(message), Some(Asks::OptIn), "{message:?}");
        }
        for message in ["HELP", "help!", "Info", "ayuda por favor"] {
            assert_eq!(read(message), Some(Asks::Help), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_the_reader_panic_and_case_and_space_change_nothing(message in ".{0,200}") {
            let spaced = format!("  {message} \n");
            prop_assert_eq!(read(&message), read(&spaced));
        }

        #[test]
        fn a_stop_that_stands_as_its_own_sentence_is_never_lost(rest in "[a-z ]{0,60}") {
            let stopped = read(&format!("Stop. {rest}"));
            prop_assert_eq!(stopped, Some(Asks::OptOut));
        }
    }
}
