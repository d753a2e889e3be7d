//! What a hold means for a write. Pure; whether a saga step may write at all is `mainstay_jobs::saga_step`'s.
//! Deliberately absent: what a hold means for messages. That is the sender's to ask.

use mainstay_jobs::saga_step::{Heard, Write};

/// Whether a hold that stands refuses the write. It refuses what is being sold now, and nothing else: not what follows an
/// earlier sale, not an undo, and not the repeat of a sale that was taken before the hold was placed, whose answer got
/// lost.
pub fn hold_refuses(heard: Option<Heard>, write: &Write, sale: bool) -> bool {
    let taken_before = heard.is_some_and(|heard| heard.done);
    sale && !write.undo && !taken_before
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_types::SagaId;

    #[test]
    fn table_of_writes_while_a_hold_stands() {
        let write = |undo| Write {
            version: 1,
            saga: SagaId::generate(),
            step: "apply_limits".into(),
            fence: 1,
            undo,
        };
        let heard = |done| {
            Some(Heard {
                fence: 1,
                done,
                undone: false,
            })
        };
        let cases = [
            ("a sale", None, write(false), true, true),
            ("a renewal", None, write(false), false, false),
            ("the undo of a sale", None, write(true), true, false),
            (
                "a sale taken before",
                heard(true),
                write(false),
                true,
                false,
            ),
            (
                "a sale heard, not taken",
                heard(false),
                write(false),
                true,
                true,
            ),
        ];
        for (name, heard, write, sale, refused) in cases {
            assert_eq!(hold_refuses(heard, &write, sale), refused, "{name}");
        }
    }
}
