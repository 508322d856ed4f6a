package qupath.lib.geom

class Point2 {
    double x, y

    Point2(double x, double y) { this.x = x; this.y = y }
}
