//! A set of ports.

/// A bit a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortBits(Box<[u64]>);

impl Default for PortBits {
    fn default() -> Self {
        Self((0..1 << 10).map(|_| 0).collect())
    }
}

impl PortBits {
    /// Adds `port`; whether it was not there.
    pub(crate) fn insert(&mut self, port: u16) -> bool {
        let word = self.0.get_mut(usize::from(port / 64));
        word.is_some_and(|word| {
            let before = std::mem::replace(word, *word | bit(port));
            before != *word
        })
    }

    pub(crate) fn remove(&mut self, port: u16) {
        if let Some(word) = self.0.get_mut(usize::from(port / 64)) {
            *word &= !bit(port);
        }
    }

    pub(crate) fn contains(&self, port: u16) -> bool {
        self.0
            .get(usize::from(port / 64))
            .is_some_and(|word| word & bit(port) != 0)
    }

    /// The set as bytes: port 0 is the lowest bit of the first.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The set with these bytes; `None` for another number of them.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks();
        let words: Box<[u64]> = words.iter().copied().map(u64::from_le_bytes).collect();
        (words.len() == 1 << 10 && rest.is_empty()).then_some(Self(words))
    }

    pub(crate) fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

const fn bit(port: u16) -> u64 {
    1 << (port % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_is_in_it_once() {
        let mut ports = PortBits::default();
        for port in [0, 63, 64, 65_535] {
            assert!(ports.insert(port) && !ports.insert(port), "{port}");
        }
        assert_eq!(ports.len(), 4);
        ports.remove(63);
        ports.remove(62);
        assert!(!ports.contains(63) && ports.contains(64) && ports.len() == 3);
    }
}
