"""XML annotations are parsed here and nowhere else, so that no file can blow up memory or read other files."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from bundle.errors import AnnotationError


def parse_xml(path: Path) -> Element:
    """The root element of an XML file.

    Raises:
        AnnotationError: no well-formed XML, or it declares entities (an entity bomb, a reference to other files).
    """
    try:
        return ElementTree.parse(path).getroot()
    except DefusedXmlException as error:
        raise AnnotationError(f"{path}: declares XML entities, which are unsafe ({error}); remove them") from None
    except (ParseError, LookupError, ValueError) as error:  # a LookupError names an encoding that does not exist
        raise AnnotationError(f"{path}: is no well-formed XML ({error}); export it again") from None
