//! Pages of a list: by key, never by offset, so that a page is as cheap as the first and nothing is shown twice.
//! A token is opaque and bound to its list; it is checked, not secret: row security decides what it can show.
//! Deliberately absent: totals.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// The largest page.
pub const MAX_PAGE_SIZE: u32 = 100;
/// The page when the caller names no size.
pub const DEFAULT_PAGE_SIZE: u32 = 50;

/// Why a page cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Not 1 to 100.
    #[error("must be between 1 and {MAX_PAGE_SIZE}")]
    Size,
    /// Not a token of this list.
    #[error("is not a page token of this list")]
    Token,
}

/// Which page is wanted. `K` is the sort key of the last row seen, its id included: what makes rows strictly ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest<K> {
    list: &'static str,
    size: u32,
    after: Option<K>,
}

impl<K: Serialize + DeserializeOwned> PageRequest<K> {
    /// Reads `page_size` and `page_token`. `list` names the list (`billing.plans`), and with it whose tokens are taken.
    ///
    /// # Errors
    /// Which of the two is wrong; the caller names the field.
    pub fn new(
        list: &'static str,
        size: Option<i32>,
        token: Option<&str>,
    ) -> Result<Self, PageError> {
        let size = match size {
            None => DEFAULT_PAGE_SIZE,
            Some(size) => u32::try_from(size)
                .ok()
                .filter(|size| (1..=MAX_PAGE_SIZE).contains(size))
                .ok_or(PageError::Size)?,
        };
        let after = token.map(|token| decode(list, token)).transpose()?;
        Ok(Self { list, size, after })
    }

    /// The key after which the page starts.
    pub fn after(&self) -> Option<&K> {
        self.after.as_ref()
    }

    /// What `limit` in SQL takes: one more than the page, to see whether another follows.
    pub fn limit(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// Cuts the rows that `limit` gave into the page and its token.
    pub fn page<R>(&self, mut rows: Vec<R>, key: impl FnOnce(&R) -> K) -> Page<R> {
        let size = self.size as usize;
        let more = rows.len() > size;
        rows.truncate(size);
        let next_page_token = match rows.last() {
            Some(last) if more => Some(encode(self.list, &key(last))),
            _ => None,
        };
        Page {
            rows,
            next_page_token,
        }
    }
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<R> {
    /// The rows.
    pub rows: Vec<R>,
    /// Where the next page starts, if there is one.
    pub next_page_token: Option<String>,
}

impl<R> Page<R> {
    /// The same page of what is built from each row.
    pub fn map<S>(self, each: impl FnMut(R) -> S) -> Page<S> {
        Page {
            rows: self.rows.into_iter().map(each).collect(),
            next_page_token: self.next_page_token,
        }
    }
}

const CHECK_LEN: usize = 6;

fn check(list: &str, key: &[u8]) -> [u8; CHECK_LEN] {
    let digest = Sha256::new()
        .chain_update(list)
        .chain_update([0])
        .chain_update(key)
        .finalize();
    std::array::from_fn(|i| digest[i])
}

fn encode<K: Serialize>(list: &str, key: &K) -> String {
    let key = serde_json::to_vec(key).expect("sort keys are ids, times and numbers");
    let mut bytes = check(list, &key).to_vec();
    bytes.extend(key);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode<K: DeserializeOwned>(list: &str, token: &str) -> Result<K, PageError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|_| PageError::Token)?;
    let (given, key) = bytes
        .split_first_chunk::<CHECK_LEN>()
        .ok_or(PageError::Token)?;
    if *given != check(list, key) {
        return Err(PageError::Token);
    }
    serde_json::from_slice(key).map_err(|_| PageError::Token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(size: i32, token: Option<&str>) -> Result<PageRequest<(i64, u8)>, PageError> {
        PageRequest::new("things", Some(size), token)
    }

    #[test]
    fn a_full_list_is_walked_page_by_page() {
        let first = request(2, None).expect("valid");
        let page = first.page(vec![(9, 1), (8, 2), (7, 3)], |row| *row);
        assert_eq!(page.rows, [(9, 1), (8, 2)]);
        let next = request(2, page.next_page_token.as_deref()).expect("own token");
        assert_eq!(next.after(), Some(&(8, 2)));
        assert_eq!(next.page(vec![(7, 3)], |row| *row).next_page_token, None);
    }

    #[test]
    fn absurd_sizes_and_foreign_tokens_are_refused() {
        assert_eq!(request(0, None), Err(PageError::Size));
        assert_eq!(request(101, None), Err(PageError::Size));
        assert_eq!(request(-1, None), Err(PageError::Size));
        assert_eq!(request(5, Some("")), Err(PageError::Token));
        assert_eq!(request(5, Some("%%%")), Err(PageError::Token));
        let other = encode("others", &(1i64, 1u8));
        assert_eq!(request(5, Some(&other)), Err(PageError::Token));
        let wrong_shape = encode("things", &"text");
        assert_eq!(request(5, Some(&wrong_shape)), Err(PageError::Token));
    }
}
