//! The Merkle tree of RFC 6962 over the hashes of a segment's records, so that one record can be shown to be in a
//! segment without showing the others.

use handshake_core::Digest;

/// Hash of a leaf: the data of leaf n is the hash of the segment's n-th record.
pub(crate) fn leaf(data: &[u8]) -> Digest {
    Digest::of(&[&[0], data].concat())
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of(&[&[1], &left.as_bytes()[..], right.as_bytes()].concat())
}

/// Grows from leaf to leaf and keeps no more than the roots of the complete trees so far: 64 of them at most.
#[derive(Debug, Default)]
pub(crate) struct MerkleTree {
    size: u64,
    complete: Vec<Digest>,
}

impl MerkleTree {
    pub(crate) fn push(&mut self, record: &Digest) {
        let mut root = leaf(record.as_bytes());
        // Each trailing one of the size is a complete tree as large as the one at hand.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.complete.pop() {
                root = node(&left, &root);
            }
        }
        self.complete.push(root);
        self.size += 1;
    }

    /// Number of leaves.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn root(&self) -> Digest {
        let mut trees = self.complete.iter().rev();
        match trees.next() {
            None => Digest::of(&[]),
            Some(last) => trees.fold(*last, |right, left| node(left, &right)),
        }
    }
}

fn root_of(leaves: &[Digest]) -> Digest {
    let mut tree = MerkleTree::default();
    leaves.iter().for_each(|leaf| tree.push(leaf));
    tree.root()
}

/// The largest power of two below the size, where the tree splits.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

/// The path from leaf `index` to the root, lowest neighbour first; none if there is no such leaf.
pub(crate) fn inclusion_path(records: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= records.len() {
        return None;
    }
    let (mut range, mut at, mut path) = (records, index, Vec::new());
    while range.len() > 1 {
        let (left, right) = range.split_at(split(range.len()));
        if at < left.len() {
            path.push(root_of(right));
            range = left;
        } else {
            path.push(root_of(left));
            at -= left.len();
            range = right;
        }
    }
    path.reverse();
    Some(path)
}

/// The root that a record at `index` of `size` leads to along a path (RFC 9162, 2.1.3.2); none if the path does not
/// have the length that such a tree has.
pub(crate) fn root_from_path(record: &Digest, index: u64, size: u64, path: &[Digest]) -> Option<Digest> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut root) = (index, size - 1, leaf(record.as_bytes()));
    for neighbour in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            root = node(neighbour, &root);
            while at % 2 == 0 && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            root = node(&root, neighbour);
        }
        at /= 2;
        last /= 2;
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The data of Certificate Transparency's own tests (RFC 6962 reference implementation), and the roots of its
    /// first n leaves.
    const DATA: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn roots_are_those_of_the_reference_implementation() {
        // Leaves here are digests; the vectors have data of any length, so they enter one level higher.
        let mut tree = MerkleTree::default();
        assert_eq!(tree.root().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (data, root) in DATA.iter().zip(ROOTS) {
            let mut hash = leaf(&hex::decode(data).unwrap());
            for _ in 0..tree.size.trailing_ones() {
                hash = node(&tree.complete.pop().unwrap(), &hash);
            }
            tree.complete.push(hash);
            tree.size += 1;
            assert_eq!(tree.root().to_string(), root);
        }
    }

    #[test]
    fn each_record_of_each_tree_is_proved_and_nothing_else_is() {
        let records: Vec<Digest> = (0..70_u8).map(|n| Digest::of(&[n])).collect();
        for size in 1..=records.len() {
            let records = &records[..size];
            let root = root_of(records);
            for index in 0..size {
                let path = inclusion_path(records, index).unwrap();
                let proved = |record: &Digest, index: usize, path: &[Digest]| {
                    root_from_path(record, index as u64, size as u64, path) == Some(root)
                };
                assert!(proved(&records[index], index, &path), "{index} of {size}");
                assert!(!proved(&Digest::ZERO, index, &path));
                assert!(size == 1 || !proved(&records[index], (index + 1) % size, &path));
                assert!(path.is_empty() || !proved(&records[index], index, &path[1..]));
                assert!(!proved(&records[index], index, &[&path[..], &[root]].concat()));
            }
            assert_eq!(inclusion_path(records, size), None);
            assert_eq!(root_from_path(&records[0], size as u64, size as u64, &[]), None);
        }
    }
}
