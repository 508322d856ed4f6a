/*
 * QuPath 0.5 or later: let the bundle's MONAI Label server segment the selected annotation's bounding box; without a
 * selection, the whole slide. Glomeruli that the image has there are replaced.
 * The server (monailabel/) must have the slide in its folder of studies, under the same file name.
 *   In QuPath: draw and select a rectangle, Automate > Script editor > Run.
 *   Without its windows: QuPath script segment_selection.groovy --image SLIDE --args MODEL --args SERVER
 */
import com.google.gson.Gson
import qupath.lib.common.GeneralTools
import qupath.lib.geom.Point2
import qupath.lib.objects.PathObjects
import qupath.lib.objects.classes.PathClass
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.ROIs

import javax.xml.parsers.DocumentBuilderFactory
import java.net.http.HttpClient
import java.net.http.HttpRequest
import java.net.http.HttpResponse
import java.time.Duration

import static qupath.lib.scripting.QP.*

def model = args ? args[0] : "glomeruli" // or "seggpt", prompted by the labels that the server has
def address = args && args.size() > 1 ? args[1] : "http://127.0.0.1:8000"

def server = getCurrentServer()
def roi = getSelectedROI()
def box = roi == null ? [0, 0, server.getWidth(), server.getHeight()] : inside(roi, server)
def name = GeneralTools.stripExtension(new File(server.getURIs().iterator().next().getPath()).getName())

def answer = ask("${address}/infer/wsi/${encoded(model)}?image=${encoded(name)}&output=asap", [
    level   : 0,
    location: box[0..1],
    size    : roi == null ? [0, 0] : box[2..3],
])
def found = outlines(answer)
found.each { PathClass.fromString(it.name).setColor(it.rgb) }
def old = getAnnotationObjects().findAll { annotation ->
    def pathClass = annotation.getPathClass()
    pathClass != null && pathClass.toString() in ["normal", "segmental_sclerosis", "global_sclerosis"] &&
        covers(box, annotation.getROI().getCentroidX(), annotation.getROI().getCentroidY())
}
removeObjects(old, true)
addObjects(found.collect {
    def polygon = ROIs.createPolygonROI(it.points, ImagePlane.getDefaultPlane())
    PathObjects.createAnnotationObject(polygon, PathClass.fromString(it.name))
})
fireHierarchyUpdate()
println "${model}: ${found.size()} glomeruli found, ${old.size()} replaced"

/** x, y, width and height of what the ROI has of the image, whole level-0 px. */
static List<Integer> inside(roi, server) {
    int x = Math.max(0, (int) Math.floor(roi.getBoundsX()))
    int y = Math.max(0, (int) Math.floor(roi.getBoundsY()))
    int right = Math.min(server.getWidth(), (int) Math.ceil(roi.getBoundsX() + roi.getBoundsWidth()))
    int bottom = Math.min(server.getHeight(), (int) Math.ceil(roi.getBoundsY() + roi.getBoundsHeight()))
    if (right <= x || bottom <= y) {
        throw new IllegalArgumentException("the selection lies outside of the image")
    }
    return [x, y, right - x, bottom - y]
}

static boolean covers(List<Integer> box, double x, double y) {
    return x >= box[0] && y >= box[1] && x < box[0] + box[2] && y < box[1] + box[3]
}

static String encoded(text) {
    // In a query a blank may be a plus, in a path it may not.
    return URLEncoder.encode(text.toString(), "UTF-8").replace("+", "%20")
}

/** The body of the answer; segmenting a whole slide may take many minutes. */
static String ask(address, Map body) {
    def client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(Duration.ofSeconds(10)).build()
    def request = HttpRequest.newBuilder(URI.create(address.toString())).header("Content-Type", "application/json")
        .POST(HttpRequest.BodyPublishers.ofString(new Gson().toJson(body))).build()
    HttpResponse<String> response
    try {
        response = client.send(request, HttpResponse.BodyHandlers.ofString())
    } catch (IOException error) {
        throw new IOException("${address}: no answer (${error}); start the MONAI Label server", error)
    }
    if (response.statusCode() != 200) {
        throw new IOException("${address}: status ${response.statusCode()}: ${response.body()}")
    }
    return response.body()
}

/** Name, colour and points (level-0 px) of each polygon in ASAP XML. */
static List<Map> outlines(String xml) {
    def factory = DocumentBuilderFactory.newInstance()
    factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true)
    def document = factory.newDocumentBuilder().parse(new ByteArrayInputStream(xml.getBytes("UTF-8")))
    def annotations = document.getElementsByTagName("Annotation")
    return (0..<annotations.getLength()).collect { annotations.item(it) }.collect { annotation ->
        def coordinates = annotation.getElementsByTagName("Coordinate")
        def points = (0..<coordinates.getLength()).collect { coordinates.item(it) }.collect {
            new Point2(Double.parseDouble(it.getAttribute("X")), Double.parseDouble(it.getAttribute("Y")))
        }
        [name: annotation.getAttribute("Name"), rgb: rgb(annotation.getAttribute("Color")), points: points]
    }.findAll { it.points.size() >= 3 }
}

/** "#00a046" as QuPath packs colours. */
static int rgb(String colour) {
    return 0xff000000 as int | Integer.parseInt(colour.replace("#", ""), 16)
}
