package qupath.lib.scripting

/** What the scripts use of QuPath's own class of this name, on plain lists; so the other classes of this folder. */
class QP {
    static Map image = [:]
    static selected = null
    static List annotations = []

    static getCurrentServer() { new StubServer() }
    static getSelectedROI() { selected }
    static Collection getAnnotationObjects() { annotations }
    static void addObjects(Collection added) { annotations.addAll(added) }
    static void removeObjects(Collection removed, boolean keepChildren) { annotations.removeAll(removed) }
    static void fireHierarchyUpdate() { }
    static Integer makeRGB(int r, int g, int b) { (int) (0xff000000L | (r << 16) | (g << 8) | b) }
}

class StubServer {
    int getWidth() { QP.image.width }
    int getHeight() { QP.image.height }
    List getURIs() { [new File(QP.image.file).toURI()] }
    StubServer getMetadata() { this }
    String getName() { new File(QP.image.file).getName() }
}
