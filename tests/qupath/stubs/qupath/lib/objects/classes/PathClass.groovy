package qupath.lib.objects.classes

class PathClass {
    static Map<String, PathClass> known = [:]
    String name
    Integer color

    static PathClass fromString(String name) { known.computeIfAbsent(name) { new PathClass(name: name) } }
    void setColor(Integer rgb) { color = rgb }
    String toString() { name }
}
