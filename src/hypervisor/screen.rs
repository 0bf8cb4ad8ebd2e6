//! The text that a PC's display shows, read from its memory: what a guest without a serial console says.
//!
//! In text mode, VGA's memory at 0xb8000 holds 25 lines of 80 cells, each a character (code page 437) and an attribute.

/// 25 lines, from the top, without the spaces at their ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextScreen(pub Vec<String>);

const COLUMNS: usize = 80;
const LINES: usize = 25;
const CELLS: usize = COLUMNS * LINES;

/// What the monitor is asked: the 2000 cells, two bytes each.
pub(super) const COMMAND: &str = "xp /2000hx 0xb8000";

/// Code page 437 from 0x80 on; below, it is ASCII but for the control characters.
const UPPER: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// What code page 437 shows for 0x01 to 0x1f.
const LOWER: &str = "☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";

/// The cells that the monitor printed; `None` where it printed something else.
///
/// `00000000000b8000: 0x0753 0x0765 …`; the character is the lower byte.
pub(super) fn cells(text: &str) -> Option<Vec<[u8; 2]>> {
    let mut cells = Vec::with_capacity(CELLS);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (_, values) = line.split_once(':')?;
        for value in values.split_ascii_whitespace() {
            let value = u16::from_str_radix(value.strip_prefix("0x")?, 16).ok()?;
            cells.push(value.to_le_bytes());
        }
    }
    (cells.len() == CELLS).then_some(cells)
}

/// The text in the cells; `None` where they hold none: the display was never set up, or shows a picture.
pub(super) fn text(cells: &[[u8; 2]]) -> Option<TextScreen> {
    is_text(cells).then(|| TextScreen(cells.chunks(COLUMNS).map(line).collect()))
}

fn line(cells: &[[u8; 2]]) -> String {
    let line: String = cells.iter().map(|[byte, _]| character(*byte)).collect();
    line.trim_end_matches([' ', '\u{a0}']).to_owned()
}

fn character(byte: u8) -> char {
    let nth = |table: &str, index: u8| table.chars().nth(usize::from(index));
    match byte {
        0 => ' ',
        0x01..=0x1f => nth(LOWER, byte - 1).unwrap_or(' '),
        0x20..=0x7e => char::from(byte),
        0x7f => '⌂',
        0x80.. => nth(UPPER, byte - 0x80).unwrap_or(' '),
    }
}

/// Memory that was never written is all 0 or all ones, and the pixels of a picture are of every value. A screen of text
/// is written in few colours, and mostly in what can be read: letters, spaces and the lines of boxes.
fn is_text(cells: &[[u8; 2]]) -> bool {
    let same = cells.windows(2).all(|pair| pair[0] == pair[1]);
    let [byte, attribute] = cells.first().copied().unwrap_or_default();
    if same && (byte != b' ' || attribute == 0) {
        return false;
    }
    let mut attributes = [0usize; 256];
    let mut odd = 0;
    for [byte, attribute] in cells {
        attributes[usize::from(*attribute)] += 1;
        // Letters of other languages and box drawings are few on a screen; control codes fewer still.
        let readable = matches!(byte, 0 | 0x20..=0x7e | 0xb0..=0xdf);
        odd += usize::from(!readable);
    }
    let colours = attributes.iter().filter(|count| **count > 0).count();
    colours <= 16 && odd * 8 <= cells.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn printed(cells: &[[u8; 2]]) -> String {
        let lines = cells.chunks(8).enumerate().map(|(index, cells)| {
            let values: Vec<_> = cells
                .iter()
                .map(|cell| format!("0x{:04x}", u16::from_le_bytes(*cell)))
                .collect();
            format!("{:016x}: {}\r\n", 0xb8000 + index * 16, values.join(" "))
        });
        lines.collect()
    }

    fn screen_of(lines: &[&str]) -> Vec<[u8; 2]> {
        let mut cells = vec![[b' ', 7]; CELLS];
        for (row, line) in lines.iter().enumerate() {
            for (column, byte) in line.bytes().enumerate() {
                cells[row * COLUMNS + column][0] = byte;
            }
        }
        cells
    }

    #[test]
    fn a_screen_is_read() {
        let cells_of = screen_of(&["SeaBIOS (version 1.16.3)", "", "Booting from Hard Disk..."]);
        let read = cells(&printed(&cells_of)).unwrap();
        assert_eq!(read, cells_of);
        let TextScreen(lines) = text(&read).unwrap();
        assert_eq!(lines.len(), 25);
        assert_eq!(
            lines[..4],
            ["SeaBIOS (version 1.16.3)", "", "Booting from Hard Disk...", ""]
        );
    }

    #[test]
    fn an_emptied_screen_is_text_and_an_unused_one_is_not() {
        assert_eq!(text(&screen_of(&[])), Some(TextScreen(vec![String::new(); 25])));
        for cell in [[0, 0], [0xff, 0xff], [0, 7], [0xff, 0x07], [b'A', 7]] {
            assert_eq!(text(&[cell; CELLS]), None, "{cell:?}");
        }
        let picture: Vec<[u8; 2]> = (0..CELLS).map(|at| [(at * 7) as u8, (at * 13) as u8]).collect();
        assert_eq!(text(&picture), None);
        let noise: Vec<[u8; 2]> = (0..CELLS).map(|at| [(at * 7) as u8, 7]).collect();
        assert_eq!(text(&noise), None);
    }

    #[test]
    fn boxes_and_signs_come_out_as_they_look() {
        assert_eq!(UPPER.chars().count(), 128);
        assert_eq!(LOWER.chars().count(), 31);
        for (byte, shown) in [
            (0xc9, '╔'),
            (0xcd, '═'),
            (0xb3, '│'),
            (0xdb, '█'),
            (0xe1, 'ß'),
            (0x18, '↑'),
            (0x7f, '⌂'),
        ] {
            assert_eq!(character(byte), shown);
        }
    }

    #[test]
    fn other_answers_are_no_screen() {
        for text in [
            "",
            "Cannot access memory\r\n",
            "00000000000b8000: 0x07",
            "b8000: 0xzz 0x0720",
        ] {
            assert_eq!(cells(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn cells_are_read_as_printed(values in prop::collection::vec(any::<[u8; 2]>(), CELLS)) {
            prop_assert_eq!(cells(&printed(&values)), Some(values.clone()));
            if let Some(TextScreen(lines)) = text(&values) {
                prop_assert_eq!(lines.len(), 25);
                prop_assert!(lines.iter().all(|line| !line.chars().any(char::is_control)));
            }
        }

        #[test]
        fn printed_ascii_comes_back(lines in prop::collection::vec("[ -~]{0,80}", 1..25)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let read = text(&screen_of(&lines));
            prop_assert!(read.is_some());
            for (line, read) in lines.iter().zip(read.unwrap().0) {
                prop_assert_eq!(line.trim_end(), read);
            }
        }

        #[test]
        fn no_text_is_a_panic(said in "\\PC{0,300}") {
            let _ = cells(&said);
        }
    }
}
